//! Clocks that run out, and only then.

use muster_server::domain::commands::command_state::{CommandState, EndReason};
use muster_server::store::queries::Retention;
use muster_server::store::writer::{AgentIdentity, OpenSession};

use crate::fixture::{Fixture, NOW};
use crate::fleet::sessions::opened;
use crate::on_both_databases;

on_both_databases!(
    a_queued_command_expires_at_its_deadline_and_a_sent_one_does_not,
    an_agent_that_is_online_loses_nothing,
    a_basic_agents_silence_means_lost_after_its_time,
    old_history_is_dropped_and_open_commands_are_not,
    one_agents_backlog_hides_no_others,
);

async fn a_queued_command_expires_at_its_deadline_and_a_sent_one_does_not(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let sent = fixture.delivered(&session).await;
    let waiting = fixture.submission(session.agent_id);
    let queued = waiting.row.id;
    fixture.store.writer().commit(waiting).await.expect("submit");
    let system = fixture.store.system();
    assert!(system.expire_queued(NOW.plus_ms(59_999)).await.expect("sweep").is_empty());
    let expired = system.expire_queued(NOW.plus_ms(60_000)).await.expect("sweep");
    assert_eq!(expired, [(queued, session.agent_id)]);
    assert_eq!(fixture.state(queued).await, CommandState::Expired);
    assert_eq!(fixture.state(sent).await, CommandState::Delivered);
}

async fn an_agent_that_is_online_loses_nothing(fixture: Fixture) {
    let session = fixture.agent("host").await;
    fixture.delivered(&session).await;
    let much_later = NOW.plus_ms(10_000_000);
    let lost = fixture.store.system().mark_offline_lost(much_later, NOW).await.expect("sweep");
    assert!(lost.is_empty());
}

async fn a_basic_agents_silence_means_lost_after_its_time(fixture: Fixture) {
    let registration =
        OpenSession { identity: AgentIdentity::Basic, ..fixture.registration("host") };
    let session = opened(fixture.open(registration).await);
    let id = fixture.delivered(&session).await;
    let system = fixture.store.system();
    // timeout_ms is 1000; a minute is added.
    assert!(system.lose_unanswered(NOW.plus_ms(61_000)).await.expect("sweep").is_empty());
    let lost = system.lose_unanswered(NOW.plus_ms(61_001)).await.expect("sweep");
    assert_eq!(lost, [(id, session.agent_id)]);
    let found = fixture.command(id).await.command;
    assert_eq!((found.state, found.end_reason), (CommandState::Lost, Some(EndReason::NoResponse)));
}

async fn old_history_is_dropped_and_open_commands_are_not(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (ended, open) = (fixture.delivered(&session).await, fixture.delivered(&session).await);
    fixture.settle(&session, ended, muster_protocol::frame::Outcome::Succeeded).await;
    // Ids carry the time of this test, not the fixture's.
    let later = NOW.plus_ms(100 * 365 * 24 * 3_600_000);
    let retention = Retention {
        telemetry_before: later,
        idempotency_before: later,
        history_before: later,
        deliveries_before: later,
    };
    while fixture.store.system().drop_old(retention).await.expect("sweep") {}
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.command(ended).await.expect("read").is_none());
    assert!(tenant.command(open).await.expect("read").is_some());
}

async fn one_agents_backlog_hides_no_others(fixture: Fixture) {
    let (busy, quiet) =
        (fixture.agent("busy").await.agent_id, fixture.agent("quiet").await.agent_id);
    let mut submitted = Vec::new();
    for agent in [busy, busy, busy, quiet] {
        let submission = fixture.submission(agent);
        submitted.push(submission.row.id);
        fixture.store.writer().commit(submission).await.expect("submit");
    }
    let system = fixture.store.system();
    let rows = system.deliverable(&[busy, quiet], NOW, 2, 100).await.expect("read");
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, [submitted[0], submitted[1], submitted[3]]);
}
