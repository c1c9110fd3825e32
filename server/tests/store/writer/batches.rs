//! Operations that share a transaction with others do what they would do alone.

use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::ids::CommandId;
use muster_server::store::StoreError;
use muster_server::store::writer::{
    AgentIdentity, CloseSession, MarkDelivered, OpenedSession, Progress, RecordProgress,
    SubmitCommand, Submitted,
};

use crate::fixture::{Fixture, NOW};
use crate::fleet::sessions::{opened, returning};
use crate::on_both_databases;

on_both_databases!(
    an_agent_starts_no_command_of_one_that_reports_a_start_beside_it,
    a_command_that_two_dispatches_want_is_handed_to_one,
    an_older_copy_of_a_ledger_is_found_out_beside_the_newer_one,
    nothing_is_delivered_to_a_session_that_has_ended,
);

fn started(session: &OpenedSession, command_id: CommandId) -> RecordProgress {
    let progress = Progress::Started { command_id };
    RecordProgress { agent_id: session.agent_id, epoch: session.epoch, progress, now: NOW }
}

async fn an_agent_starts_no_command_of_one_that_reports_a_start_beside_it(fixture: Fixture) {
    let (owner, thief) = (fixture.agent("owner").await, fixture.agent("thief").await);
    let (wanted, own) = (fixture.delivered(&owner).await, fixture.delivered(&owner).await);
    let writer = fixture.store.writer();
    let (by_thief, by_owner) =
        tokio::join!(writer.commit(started(&thief, wanted)), writer.commit(started(&owner, own)),);
    by_thief.and(by_owner).expect("written");
    assert_eq!(fixture.state(wanted).await, CommandState::Delivered);
    assert_eq!(fixture.state(own).await, CommandState::Running);
}

async fn a_command_that_two_dispatches_want_is_handed_to_one(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let submission = fixture.submission(session.agent_id);
    let id = submission.row.id;
    let writer = fixture.store.writer();
    writer.commit(submission).await.expect("submit");
    let deliver = || MarkDelivered {
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_ids: vec![id],
        now: NOW,
    };
    let (one, other) = tokio::join!(writer.commit(deliver()), writer.commit(deliver()));
    let handed = [one.expect("deliver"), other.expect("deliver")].concat();
    assert_eq!(handed, [id]);
}

async fn an_older_copy_of_a_ledger_is_found_out_beside_the_newer_one(fixture: Fixture) {
    let first = fixture.agent("host").await;
    let sent = fixture.delivered(&first).await;
    let counting = |count: u64| {
        let mut registration = fixture.registration("host");
        returning(&mut registration, &first);
        if let AgentIdentity::Full { acceptance_count, .. } = &mut registration.identity {
            *acceptance_count = count;
        }
        registration
    };
    let (newer, older) = tokio::join!(fixture.open(counting(5)), fixture.open(counting(4)));
    assert_eq!(opened(newer).agent_id, opened(older).agent_id);
    assert_eq!(fixture.state(sent).await, CommandState::Lost);
}

async fn nothing_is_delivered_to_a_session_that_has_ended(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (agent_id, epoch) = (session.agent_id, session.epoch);
    let queued = fixture.submission(agent_id);
    let id = queued.row.id;
    let writer = fixture.store.writer();
    writer.commit(queued).await.expect("submit");
    let ended = CloseSession {
        tenant_id: fixture.tenant_id,
        agent_id,
        epoch,
        reason: "connection_lost",
        now: NOW,
    };
    writer.commit(ended).await.expect("close");
    // What was read before the end is committed after it.
    let late = MarkDelivered { agent_id, epoch, command_ids: vec![id], now: NOW };
    let late = writer.commit(late).await;
    assert!(matches!(late, Err(StoreError::StaleEpoch)), "{late:?}");
    assert_eq!(fixture.state(id).await, CommandState::Queued);
    let new = SubmitCommand { deliver_in_epoch: Some(epoch), ..fixture.submission(agent_id) };
    let new_id = new.row.id;
    let submitted = writer.commit(new).await.expect("submit");
    assert_eq!(submitted, Submitted::New { delivered: false });
    assert_eq!(fixture.state(new_id).await, CommandState::Queued);
}
