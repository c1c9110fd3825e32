//! A result is recorded once, also if it is repeated or late.

use muster_protocol::frame::{Outcome, Receipt};
use muster_server::domain::commands::command_state::CommandState;
use muster_server::store::StoreError;
use muster_server::store::writer::Settled;

use crate::fixture::{Fixture, NOW, settle};
use crate::on_both_databases;

on_both_databases!(
    a_repeated_result_changes_nothing,
    a_result_after_the_end_is_kept_beside_it,
    another_agents_command_is_unknown,
    a_replaced_session_settles_nothing,
);

async fn a_repeated_result_changes_nothing(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let id = fixture.delivered(&session).await;
    let first = fixture.settle(&session, id, Outcome::Failed).await;
    assert_eq!(
        first,
        Settled { receipt: Receipt::Recorded, was_open: true, job_id: None, next_attempt: None }
    );
    let again = fixture.settle(&session, id, Outcome::Succeeded).await;
    assert_eq!(
        again,
        Settled { receipt: Receipt::Recorded, was_open: false, job_id: None, next_attempt: None }
    );
    assert_eq!(fixture.state(id).await, CommandState::Failed);
}

async fn a_result_after_the_end_is_kept_beside_it(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let id = fixture.delivered(&session).await;
    // Away for longer than the command allows.
    let close = muster_server::store::writer::CloseSession {
        tenant_id: fixture.tenant_id,
        agent_id: session.agent_id,
        epoch: session.epoch,
        reason: "test",
        now: NOW,
    };
    fixture.store.writer().commit(close).await.expect("close");
    let later = NOW.plus_ms(60_000);
    let lost = fixture.store.system().mark_offline_lost(later, NOW).await.expect("sweep");
    assert_eq!(lost, [(id, session.agent_id)]);
    let settled = fixture.settle(&session, id, Outcome::Succeeded).await;
    assert_eq!(settled.receipt, Receipt::Late);
    assert_eq!(fixture.settle(&session, id, Outcome::Failed).await.receipt, Receipt::Late);
    let found = fixture.command(id).await;
    assert_eq!(found.command.state, CommandState::Lost);
    let report = found.report.expect("the late report");
    assert!(report.is_late);
    assert_eq!(report.outcome, CommandState::Succeeded);
}

async fn another_agents_command_is_unknown(fixture: Fixture) {
    let (owner, thief) = (fixture.agent("owner").await, fixture.agent("thief").await);
    let id = fixture.delivered(&owner).await;
    let settled = fixture.settle(&thief, id, Outcome::Succeeded).await;
    assert_eq!(settled.receipt, Receipt::UnknownCommand);
    assert_eq!(fixture.state(id).await, CommandState::Delivered);
}

async fn a_replaced_session_settles_nothing(fixture: Fixture) {
    let old = fixture.agent("host").await;
    let id = fixture.delivered(&old).await;
    let mut again = fixture.registration("host");
    crate::fleet::sessions::returning(&mut again, &old);
    let new = crate::fleet::sessions::opened(fixture.open(again).await);
    assert!(new.epoch > old.epoch);
    let refused = fixture.store.writer().commit(settle(&old, id, Outcome::Succeeded)).await;
    assert!(matches!(refused, Err(StoreError::StaleEpoch)), "{refused:?}");
    assert_eq!(fixture.settle(&new, id, Outcome::Succeeded).await.receipt, Receipt::Recorded);
}
