//! What an inventory says, against what is stored.

use bytes::Bytes;
use muster_protocol::frame::{InventoryState, Outcome, Receipt};
use muster_server::domain::commands::command_state::{CommandState, EndReason};
use muster_server::domain::ids::CommandId;
use muster_server::store::writer::{
    AppendOutput, Committed, Disposition, Listed, OpenedSession, Progress, Reconcile, Reconciled,
    RecordProgress,
};

use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    what_never_arrived_is_queued_again_and_what_ran_is_lost,
    what_is_listed_goes_on_from_its_committed_offset,
    what_is_settled_or_unknown_is_not_wanted_again,
    a_cancel_is_repeated,
    a_cancelled_command_that_never_arrived_is_not_sent_again,
    a_lost_command_that_still_runs_is_cancelled_all_the_same,
    progress_of_steps_is_that_of_the_own_agent_and_stays_only_if_the_execution_is_lost,
);

async fn reconcile(
    fixture: &Fixture,
    session: &OpenedSession,
    listed: &[(CommandId, InventoryState)],
) -> Reconciled {
    let listed =
        listed.iter().map(|(command_id, state)| Listed { command_id: *command_id, state: *state });
    let operation = Reconcile {
        agent_id: session.agent_id,
        epoch: session.epoch,
        listed: listed.collect(),
        now: NOW,
    };
    fixture.store.writer().commit(operation).await.expect("reconcile")
}

async fn start(fixture: &Fixture, session: &OpenedSession, command_id: CommandId) {
    let operation = RecordProgress {
        agent_id: session.agent_id,
        epoch: session.epoch,
        progress: Progress::Started { command_id },
        now: NOW,
    };
    fixture.store.writer().commit(operation).await.expect("start");
}

async fn what_never_arrived_is_queued_again_and_what_ran_is_lost(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (never, ran) = (fixture.delivered(&session).await, fixture.delivered(&session).await);
    start(&fixture, &session, ran).await;
    assert_eq!(fixture.state(ran).await, CommandState::Running);
    let reconciled = reconcile(&fixture, &session, &[]).await;
    assert_eq!(reconciled.changed.len(), 2);
    assert_eq!(fixture.state(never).await, CommandState::Queued);
    let lost = fixture.command(ran).await.command;
    assert_eq!(lost.state, CommandState::Lost);
    assert_eq!(lost.end_reason, Some(EndReason::MissingFromInventory));
}

async fn what_is_listed_goes_on_from_its_committed_offset(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let id = fixture.delivered(&session).await;
    let chunk = AppendOutput {
        max_log_bytes: None,
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_id: id,
        offset_bytes: 0,
        length_bytes: 7,
        stdout_offset_bytes: 0,
        stdout_bytes: 4,
        records: Bytes::from_static(b"-"),
        received_at: muster_server::domain::time::Timestamp(1),
    };
    fixture.store.writer().commit(chunk).await.expect("append");
    let reconciled = reconcile(&fixture, &session, &[(id, InventoryState::Running)]).await;
    let committed = Committed { offset_bytes: 7, stdout_bytes: 4 };
    assert_eq!(reconciled.dispositions, [(id, Disposition::SendFrom(committed))]);
    assert_eq!(reconciled.open, [id]);
    assert_eq!(fixture.state(id).await, CommandState::Running);
}

async fn what_is_settled_or_unknown_is_not_wanted_again(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let other = fixture.agent("other").await;
    let (settled, foreign) = (fixture.delivered(&session).await, fixture.delivered(&other).await);
    fixture.settle(&session, settled, Outcome::Succeeded).await;
    let listed = [(settled, InventoryState::Settled), (foreign, InventoryState::Running)];
    let reconciled = reconcile(&fixture, &session, &listed).await;
    let of = |id| reconciled.dispositions.iter().find(|found| found.0 == id).map(|found| found.1);
    assert_eq!(of(settled), Some(Disposition::Done(Receipt::Recorded)));
    assert_eq!(of(foreign), Some(Disposition::Done(Receipt::UnknownCommand)));
    assert!(reconciled.open.is_empty());
    assert_eq!(fixture.state(foreign).await, CommandState::Delivered);
}

async fn a_cancel_is_repeated(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let id = fixture.delivered(&session).await;
    cancel(&fixture, id).await;
    let reconciled = reconcile(&fixture, &session, &[(id, InventoryState::Accepted)]).await;
    assert_eq!(reconciled.cancels, [id]);
}

async fn cancel(fixture: &Fixture, id: CommandId) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let audit = crate::fixture::audit(fixture.tenant_id);
    tenant.cancel_command(id, NOW, audit).await.expect("cancel");
}

async fn a_cancelled_command_that_never_arrived_is_not_sent_again(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let id = fixture.delivered(&session).await;
    cancel(&fixture, id).await;
    reconcile(&fixture, &session, &[]).await;
    let found = fixture.command(id).await.command;
    assert_eq!(found.state, CommandState::Cancelled);
    assert_eq!(found.end_reason, Some(EndReason::CancelledInQueue));
}

async fn a_lost_command_that_still_runs_is_cancelled_all_the_same(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let id = fixture.delivered(&session).await;
    start(&fixture, &session, id).await;
    cancel(&fixture, id).await;
    reconcile(&fixture, &session, &[]).await;
    assert_eq!(fixture.state(id).await, CommandState::Lost);
    let listed = [(id, InventoryState::Running)];
    assert_eq!(reconcile(&fixture, &session, &listed).await.cancels, [id]);
}

async fn progress_of_steps_is_that_of_the_own_agent_and_stays_only_if_the_execution_is_lost(
    fixture: Fixture,
) {
    let (session, other) = (fixture.agent("host").await, fixture.agent("other").await);
    let (ended, lost) = (fixture.delivered(&session).await, fixture.delivered(&session).await);
    let report = async |by: &OpenedSession, command_id, text: &str| {
        let operation = RecordProgress {
            agent_id: by.agent_id,
            epoch: by.epoch,
            progress: Progress::Steps { command_id, progress: text.to_owned() },
            now: NOW,
        };
        fixture.store.writer().commit(operation).await.expect("recorded");
    };
    let known = async |id| fixture.command(id).await.command.step_progress;
    for id in [ended, lost] {
        start(&fixture, &session, id).await;
        report(&session, id, "first").await;
        report(&session, id, "second").await;
        report(&other, id, "of another agent").await;
        assert_eq!(known(id).await.as_deref(), Some("second"));
    }
    fixture.settle(&session, ended, Outcome::Failed).await;
    assert_eq!(known(ended).await, None, "the result has it");
    let listed = [(ended, InventoryState::Settled)];
    reconcile(&fixture, &session, &listed).await;
    assert_eq!(fixture.state(lost).await, CommandState::Lost);
    report(&session, lost, "later").await;
    assert_eq!(known(lost).await.as_deref(), Some("second"));
}
