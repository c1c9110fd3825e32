//! What concerns one tenant, or one bad write, concerns no other.

use bytes::Bytes;
use muster_server::domain::access::audit::AuditFilter;
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::ids::TenantId;
use muster_server::domain::page::PageRequest;
use muster_server::store::queries::{AuditRange, CommandFilter, Deletion, OutputStream};
use muster_server::store::writer::AppendOutput;
use muster_server::store::{Store, StoreError};

use crate::fixture::{Fixture, audit};
use crate::on_both_databases;

on_both_databases!(
    a_tenant_sees_nothing_of_another,
    one_bad_write_spoils_no_other,
    a_second_server_is_refused,
);

async fn a_tenant_sees_nothing_of_another(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let command = fixture.delivered(&session).await;
    let stranger = fixture.store.tenant(TenantId::new());
    let page = PageRequest { after: None, limit: 10 };
    assert!(stranger.agent(session.agent_id).await.expect("read").is_none());
    assert!(stranger.agents(page).await.expect("read").is_empty());
    assert!(stranger.agent_key(fixture.key_id).await.expect("read").is_none());
    assert!(stranger.agent_keys(page).await.expect("read").is_empty());
    assert!(stranger.command(command).await.expect("read").is_none());
    let all = CommandFilter::default();
    assert!(stranger.commands(&all, page).await.expect("read").items.is_empty());
    let (filter, range) = (AuditFilter::default(), AuditRange::Before(None));
    let audited = stranger.audit_entries(&filter, range, 10).await.expect("read");
    assert!(audited.entries.is_empty());
    assert!(stranger.audit_head().await.expect("read").is_none());
    assert!(stranger.audit_links(0, 10, 10).await.expect("read").is_empty());
    assert!(stranger.agent_events(session.agent_id, page).await.expect("read").is_empty());
    let entry = audit(fixture.tenant_id);
    let now = crate::fixture::NOW;
    for deletion in [Deletion::Operator, Deletion::Agent { epoch: session.epoch }] {
        let deleted = stranger.delete_agent(session.agent_id, deletion, now, entry.clone()).await;
        assert_eq!(deleted.expect("try"), None);
    }
    assert!(!stranger.delete_agent_key(fixture.key_id, now, entry).await.expect("try"));
    assert_eq!(fixture.state(command).await, CommandState::Delivered);
}

async fn one_bad_write_spoils_no_other(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let command_id = fixture.delivered(&session).await;
    let chunk = |offset_bytes| AppendOutput {
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_id,
        offset_bytes,
        length_bytes: 1,
        stdout_offset_bytes: offset_bytes,
        stdout_bytes: 1,
        records: Bytes::from_static(b"\x01\0\0\0\x01x"),
        received_at: muster_server::domain::time::Timestamp(1),
        max_log_bytes: None,
    };
    let writer = fixture.store.writer();
    let mut waits = Vec::new();
    // The second is the first again; the fourth would leave a gap, as if one before it had failed.
    for offset in [0, 0, 1, 5, 2] {
        waits.push(writer.enqueue(chunk(offset)).await.expect("queue"));
    }
    let mut results = Vec::new();
    for wait in waits {
        results.push(wait.await.is_ok());
    }
    assert_eq!(results, [true, false, true, false, true]);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert_eq!(tenant.output_end(command_id, OutputStream::Both).await.expect("read"), 3);
}

async fn a_second_server_is_refused(fixture: Fixture) {
    let same_folder = Store::open("sqlite::memory:", &fixture.test_dir.folder("data")).await;
    assert!(matches!(same_folder, Err(StoreError::Locked)), "{same_folder:?}");
    if let Some(url) = fixture.postgres_url() {
        let same_database = Store::open(&url, &fixture.test_dir.folder("other")).await;
        assert!(matches!(same_database, Err(StoreError::Locked)), "{same_database:?}");
    }
}
