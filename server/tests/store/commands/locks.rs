//! Of the commands of an agent that name the same lock, one at a time is sent.

use muster_protocol::frame::Outcome;
use muster_server::domain::ids::CommandId;
use muster_server::store::writer::{MarkDelivered, OpenedSession};

use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    command_waits_until_its_lock_is_free,
    one_of_a_batch_gets_the_lock,
    locks_of_other_agents_and_other_names_are_free,
    lock_is_free_after_every_end_of_its_holder,
);

impl Fixture {
    /// A queued command that names a lock.
    async fn locked(&self, session: &OpenedSession, lock: &str) -> CommandId {
        let mut submission = self.submission(session.agent_id);
        submission.row.lock_name = Some(lock.to_owned());
        let id = submission.row.id;
        self.store.writer().commit(submission).await.expect("submit");
        id
    }
}

async fn command_waits_until_its_lock_is_free(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let holder = fixture.locked(&session, "apt").await;
    let next = fixture.locked(&session, "apt").await;
    let free = fixture.submission(session.agent_id);
    let free_id = free.row.id;
    fixture.store.writer().commit(free).await.expect("submit");
    assert!(fixture.is_sent(&session, holder, NOW).await);
    assert_eq!(fixture.deliverable(&session, NOW).await, [free_id], "the other waits");
    assert!(!fixture.is_sent(&session, next, NOW).await, "also for a dispatcher that read before");
    let (agents, system) = ([session.agent_id], fixture.store.system());
    let waiting = system.agents_with_queued_locks(&agents).await.expect("read");
    assert_eq!(waiting, agents.into());
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let holders = tenant.lock_holders(vec![session.agent_id]).await.expect("read");
    assert_eq!(holders, [((session.agent_id, "apt".to_owned()), holder)].into());
    fixture.settle(&session, holder, Outcome::Failed).await;
    assert_eq!(fixture.deliverable(&session, NOW).await, [next, free_id]);
    assert!(fixture.is_sent(&session, next, NOW).await);
}

async fn one_of_a_batch_gets_the_lock(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(fixture.locked(&session, "apt").await);
    }
    let operation = MarkDelivered {
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_ids: ids.iter().rev().copied().collect(),
        now: NOW,
    };
    let sent = fixture.store.writer().commit(operation).await.expect("mark");
    assert_eq!(sent, ids[..1], "the oldest");
}

async fn locks_of_other_agents_and_other_names_are_free(fixture: Fixture) {
    let (one, two) = (fixture.agent("one").await, fixture.agent("two").await);
    for (session, lock) in [(&one, "apt"), (&one, "db"), (&two, "apt")] {
        let id = fixture.locked(session, lock).await;
        assert!(fixture.is_sent(session, id, NOW).await, "{lock}");
    }
}

async fn lock_is_free_after_every_end_of_its_holder(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let ends = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Cancelled,
        Outcome::Expired,
        Outcome::Rejected,
        Outcome::Lost,
    ];
    for end in ends {
        let holder = fixture.locked(&session, "apt").await;
        assert!(fixture.is_sent(&session, holder, NOW).await, "{end:?}");
        let next = fixture.locked(&session, "apt").await;
        assert!(!fixture.is_sent(&session, next, NOW).await, "{end:?}: it is held");
        fixture.settle(&session, holder, end).await;
        assert_eq!(fixture.deliverable(&session, NOW).await, [next], "{end:?}");
        assert!(fixture.is_sent(&session, next, NOW).await, "{end:?}");
        fixture.settle(&session, next, Outcome::Succeeded).await;
    }
}
