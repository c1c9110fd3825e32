//! Agents that are deleted, by an operator or at their own request.

use muster_protocol::frame::Outcome;
use muster_server::domain::commands::command_state::{CommandState, EndReason};
use muster_server::domain::fleet::agent::AgentEventKind;
use muster_server::domain::page::PageRequest;
use muster_server::store::StoreError;
use muster_server::store::queries::Deletion;
use muster_server::store::writer::Submitted;

use crate::fixture::{Fixture, NOW, audit, settle};
use crate::on_both_databases;

on_both_databases!(
    what_a_deleted_agent_held_ends_and_says_so,
    a_replaced_session_deregisters_nothing,
);

async fn what_a_deleted_agent_held_ends_and_says_so(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    for (host, is_own_request) in [("one", false), ("two", true)] {
        let session = fixture.agent(host).await;
        let sent = fixture.delivered(&session).await;
        let done = fixture.delivered(&session).await;
        fixture.settle(&session, done, Outcome::Succeeded).await;
        let waiting = fixture.submission(session.agent_id);
        let queued = waiting.row.id;
        fixture.store.writer().commit(waiting).await.expect("submit");
        let deletion = match is_own_request {
            true => Deletion::Agent { epoch: session.epoch },
            false => Deletion::Operator,
        };
        let entry = audit(fixture.tenant_id);
        let deleted = tenant.delete_agent(session.agent_id, deletion, NOW, entry.clone()).await;
        let mut ended = deleted.expect("delete").expect("there was one");
        ended.sort_unstable();
        let mut expected = vec![sent, queued];
        expected.sort_unstable();
        assert_eq!(ended, expected);
        for (id, state) in [(queued, CommandState::Cancelled), (sent, CommandState::Lost)] {
            let command = fixture.command(id).await.command;
            assert_eq!((command.state, command.end_reason), (state, Some(EndReason::AgentDeleted)));
        }
        assert_eq!(fixture.state(done).await, CommandState::Succeeded);
        assert!(tenant.agent(session.agent_id).await.expect("read").is_none());
        let page = PageRequest { after: None, limit: 10 };
        let events = tenant.agent_events(session.agent_id, page).await.expect("read");
        let is_told = events.iter().any(|event| event.kind == AgentEventKind::Deregistered);
        assert_eq!(is_told, is_own_request);
        let audited = fixture.audit_entries().await;
        assert!(audited.iter().any(|found| found.id == entry.id), "in the same transaction");

        let late = fixture.submission(session.agent_id);
        let submitted = fixture.store.writer().commit(late).await.expect("submit");
        assert_eq!(submitted, Submitted::AgentGone, "nothing is queued for a deleted agent");
        let again = tenant.delete_agent(session.agent_id, deletion, NOW, entry).await;
        assert_eq!(again.expect("try"), None);
        let late = fixture.store.writer().commit(settle(&session, sent, Outcome::Failed)).await;
        assert!(matches!(late, Err(StoreError::StaleEpoch)), "{late:?}");
    }
}

async fn a_replaced_session_deregisters_nothing(fixture: Fixture) {
    let old = fixture.agent("host").await;
    let mut again = fixture.registration("host");
    crate::fleet::sessions::returning(&mut again, &old);
    let new = crate::fleet::sessions::opened(fixture.open(again).await);
    let held = fixture.delivered(&new).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let deletion = Deletion::Agent { epoch: old.epoch };
    let entry = audit(fixture.tenant_id);
    let refused = tenant.delete_agent(old.agent_id, deletion, NOW, entry.clone()).await;
    assert_eq!(refused.expect("try"), None);
    assert_eq!(fixture.state(held).await, CommandState::Delivered);
    let audited = fixture.audit_entries().await;
    assert!(audited.iter().all(|found| found.id != entry.id), "nothing was done");
    let deletion = Deletion::Agent { epoch: new.epoch };
    let deleted = tenant.delete_agent(new.agent_id, deletion, NOW, entry).await;
    assert_eq!(deleted.expect("delete"), Some(vec![held]));
}
