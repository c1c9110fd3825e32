//! The writer among others: locks, and writes that fail.

use bytes::Bytes;
use muster_protocol::frame::Outcome;
use muster_server::domain::commands::command_state::CommandState;
use muster_server::store::StoreError;
use muster_server::store::writer::{AppendOutput, MarkDelivered, SubmitCommand, Submitted};
use muster_tests::eventually;
use sea_orm::{ConnectionTrait as _, Database};

use crate::fixture::{Fixture, NOW, settle};
use crate::fleet::sessions::{opened, returning};
use crate::on_both_databases;

on_both_databases!(a_bad_write_spoils_no_other, the_writer_goes_on_after_a_failure);

async fn fail(fixture: &Fixture) -> Result<(), StoreError> {
    let writer = fixture.store.writer();
    writer
        .change(|transaction| {
            Box::pin(async move {
                transaction.execute_unprepared("INSERT INTO no_such_table VALUES (1)").await?;
                Ok(())
            })
        })
        .await
}

async fn a_bad_write_spoils_no_other(fixture: Fixture) {
    let agent = fixture.agent("host").await.agent_id;
    let writer = fixture.store.writer();
    // Both are queued before the writer runs, so they share a transaction.
    let (good, bad) = tokio::join!(writer.commit(fixture.submission(agent)), fail(&fixture));
    assert_eq!(good.expect("submit"), Submitted::New { delivered: false });
    assert!(matches!(bad, Err(StoreError::Database(_))), "{bad:?}");
}

async fn the_writer_goes_on_after_a_failure(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let first = fixture.delivered(&session).await;
    fail(&fixture).await.expect_err("fail");
    let second = fixture.delivered(&session).await;
    assert_ne!(first, second);
    // A session that has ended stays ended, also after a failure.
    let mut registration = fixture.registration("host");
    returning(&mut registration, &session);
    let newer = opened(fixture.open(registration).await);
    fail(&fixture).await.expect_err("fail");
    assert_ne!(newer.epoch, session.epoch);
    let late = settle(&session, second, Outcome::Succeeded);
    let late = fixture.store.writer().commit(late).await;
    assert!(matches!(late, Err(StoreError::StaleEpoch)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_of_a_session_no_later_one_is_kept() {
    let mut fixture = Fixture::postgres_cluster().await;
    let session = fixture.agent("host").await;
    let id = fixture.delivered(&session).await;
    let output = AppendOutput {
        max_log_bytes: None,
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_id: id,
        offset_bytes: 0,
        length_bytes: 1,
        stdout_offset_bytes: 0,
        stdout_bytes: 1,
        records: Bytes::from_static(b"\x01\0\0\0\x01x"),
        received_at: muster_server::domain::time::Timestamp(1),
    };
    tokio::task::block_in_place(|| fixture.cluster().stop());
    let lost = fixture.store.writer().commit(output).await;
    assert!(matches!(lost, Err(StoreError::Database(_))), "{lost:?}");
    tokio::task::block_in_place(|| fixture.cluster().resume());
    eventually("the database takes writes again", async || {
        let other = fixture.submission(session.agent_id);
        fixture.store.writer().commit(other).await.ok()
    })
    .await;
    // The agent can't know yet, and has sent the result right behind it.
    let result = settle(&session, id, Outcome::Succeeded);
    let result = fixture.store.writer().commit(result).await;
    assert!(matches!(result, Err(StoreError::Database(_))), "{result:?}");
    assert_eq!(fixture.state(id).await, CommandState::Delivered);
    // Nor is anything sent to it that way: no frame would leave.
    let waiting = fixture.submission(session.agent_id);
    let waiting_id = waiting.row.id;
    let sent = SubmitCommand { deliver_in_epoch: Some(session.epoch), ..waiting };
    let sent = fixture.store.writer().commit(sent).await.expect("submit");
    assert_eq!(sent, Submitted::New { delivered: false });
    let mark = MarkDelivered {
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_ids: vec![waiting_id],
        now: NOW,
    };
    let marked = fixture.store.writer().commit(mark).await;
    assert!(matches!(marked, Err(StoreError::Database(_))), "{marked:?}");
    assert_eq!(fixture.state(waiting_id).await, CommandState::Queued);
    // In the next session both are sent again.
    let mut registration = fixture.registration("host");
    returning(&mut registration, &session);
    let next = opened(fixture.open(registration).await);
    fixture.settle(&next, id, Outcome::Succeeded).await;
    assert_eq!(fixture.state(id).await, CommandState::Succeeded);
}

#[tokio::test]
async fn a_write_waits_for_the_holder_of_sqlites_lock() {
    let fixture = Fixture::sqlite().await;
    let agent = fixture.agent("host").await.agent_id;
    let url = format!("sqlite:{}", fixture.test_dir.path().join("muster.db").display());
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1);
    let other = Database::connect(options).await.expect("open the database");
    other.execute_unprepared("BEGIN IMMEDIATE").await.expect("take the lock");
    other.execute_unprepared("UPDATE tenants SET name = 'other'").await.expect("write");
    let writer = fixture.store.writer();
    let pending = writer.enqueue(fixture.submission(agent)).await.expect("queue");
    other.execute_unprepared("COMMIT").await.expect("let go of the lock");
    assert_eq!(pending.await.expect("submit"), Submitted::New { delivered: false });
}
