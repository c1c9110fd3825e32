//! Sessions over a link in memory, with a server that a test plays by hand and real shims.

use std::fs;
use std::time::Duration;

use crate::played_server::{AGENT_ID, Server, open_agent};
use crate::support::{Host, sha256};
use muster_agent::link::Incoming;
use muster_agent::sessions::SessionEnd;
use muster_protocol::frame::{AgentFrame, Outcome, Receipt, ServerFrame};
use muster_protocol::{CloseCode, CommandName, ExitCode, Permissions};
use serde_json::{Value, json};
use uuid::Uuid;

pub fn list(host: &Host, scripts: Value) {
    fs::write(host.state.manifest(), json!({"scripts": scripts}).to_string()).expect("written");
}

pub fn execute(host: &Host, script: &str) -> (Uuid, Value) {
    let id = Uuid::now_v7();
    host.note(id);
    (id, json!({"script": script}))
}

#[tokio::test]
async fn transient_commands_are_answered_at_once() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    let (registration, inventory) = server.greet().await;
    assert_eq!((registration.protocol, registration.agent_id), (Some(1), None));
    assert!(inventory.is_empty());
    for (command, data, expected) in [
        ("ping", json!({}), "/pong"),
        ("echo", json!({"message": "hi"}), "/message"),
        ("info", json!(null), "/hostname"),
        ("scripts", json!({}), "/scripts/0/name"),
    ] {
        let id = Uuid::now_v7();
        server.command(id, command, data).await;
        let response = server.response().await;
        assert_eq!((response.command_id, response.success), (id, true));
        assert!(response.data.pointer(expected).is_some(), "{response:?}");
    }
    server.command(Uuid::from_u128(2), "dance", json!({})).await;
    let response = server.response().await;
    assert_eq!(response.error_code.as_deref(), Some("unsupported_command"));
    let (agent, ended) = server.end().await;
    assert!(ended.was_registered);
    // The id is kept and presented from now on.
    let mut server = Server::meet(agent);
    server.epoch = 2;
    let (registration, _) = server.greet().await;
    assert_eq!(registration.agent_id, Some(AGENT_ID.to_string()));
    assert_eq!(registration.highest_epoch, Some(1));
    server.end().await;
}

#[tokio::test]
async fn a_command_that_the_key_does_not_permit_is_refused_permanently() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.connect(Permissions::new([CommandName::Ping])).await;
    let (id, data) = execute(&host, "hello");
    for _ in 0..2 {
        server.command(id, "execute", data.clone()).await;
        let response = server.response().await;
        assert_eq!(response.error_code.as_deref(), Some("permission_denied"));
        assert_eq!(response.outcome, Some(Outcome::Rejected));
    }
    server.end().await;
}

#[tokio::test]
async fn an_execution_is_accepted_started_reported_and_receipted_in_this_order() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let (id, data) = execute(&host, "hello");
    server.command(id, "execute", data.clone()).await;
    let accepted = server.frame().await;
    assert_eq!(accepted, AgentFrame::Accepted { command_id: id, acceptance_count: 1 });
    assert_eq!(server.frame().await, AgentFrame::Started { command_id: id });
    let (output, response) = server.output(id, 0).await;
    assert!(output.starts_with(b"Hello, world, from "), "{output:?}");
    assert_eq!(response.outcome, Some(Outcome::Succeeded));
    assert_eq!(response.data["output_sha256"], sha256(&output));
    server.ack(id, None, Some(Receipt::Recorded)).await;
    // Delivered once more after all: it is answered and does not run again.
    server.command(id, "execute", data).await;
    let again = server.response().await;
    assert_eq!(again, response);
    let (agent, _) = server.end().await;
    assert_eq!(agent.executions.running_count(), 0);
    assert_eq!(agent.executions.ledger().head().acceptance_count, 1);
}

#[tokio::test]
async fn cancel_ends_an_execution_and_a_cancelled_id_that_arrives_later_never_starts() {
    let host = Host::new();
    host.script("wait.sh", "echo up; while :; do sleep 0.05; done");
    list(&host, json!([{"name": "wait", "path": "wait.sh", "interpreter": "/bin/sh"}]));
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let ((running, data), (unseen, _)) = (execute(&host, "wait"), execute(&host, "wait"));
    server.command(running, "execute", data.clone()).await;
    while !matches!(server.frame().await, AgentFrame::Started { .. }) {}
    for command_id in [running, unseen] {
        server.send(ServerFrame::Cancel { command_id, grace_ms: 200 }).await;
    }
    server.command(unseen, "execute", data).await;
    let mut outcomes = std::collections::BTreeMap::new();
    while outcomes.len() < 2 {
        let response = server.response().await;
        outcomes.insert(response.command_id, response.outcome);
    }
    assert!(outcomes.values().all(|outcome| *outcome == Some(Outcome::Cancelled)), "{outcomes:?}");
    server.end().await;
}

#[tokio::test]
async fn a_restart_is_answered_durably_and_never_loops() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let id = Uuid::now_v7();
    server.command(id, "restart", json!({})).await;
    let response = server.response().await;
    assert_eq!(response.outcome, Some(Outcome::Succeeded));
    assert_eq!(response.data["exit_code"], 42);
    server.ack(id, None, Some(Receipt::Recorded)).await;
    let (agent, ended) = server.ended().await;
    assert!(matches!(ended.end, SessionEnd::Exit(ExitCode::Restart)));
    drop(agent);
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    server.command(id, "restart", json!({})).await;
    assert_eq!(server.response().await, response);
    server.command(Uuid::from_u128(3), "ping", json!({})).await;
    assert_eq!(server.response().await.data["pong"], true);
    server.end().await;
}

#[tokio::test]
async fn a_restart_happens_even_if_the_link_breaks_before_the_receipt() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    server.command(Uuid::now_v7(), "restart", json!({})).await;
    server.response().await;
    let Server { end, session, .. } = server;
    drop(end);
    let (_, ended) = session.await.expect("no panic");
    assert!(matches!(ended.end, SessionEnd::Exit(ExitCode::Restart)));
}

#[tokio::test]
async fn a_restart_whose_answer_cannot_be_stored_is_refused_and_never_loops() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let id = Uuid::now_v7();
    // In the way of the folder that the answer would lie in.
    fs::write(host.state.execution(id).path(), "").expect("written");
    server.command(id, "restart", json!({})).await;
    let response = server.response().await;
    assert_eq!(response.outcome, Some(Outcome::Rejected));
    assert_eq!(response.error_code.as_deref(), Some("storage_failed"));
    server.command(Uuid::from_u128(3), "ping", json!({})).await;
    assert_eq!(server.response().await.data["pong"], true);
    server.end().await;
}

#[tokio::test]
async fn drain_close_and_rekey_frames_are_applied() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    server.send(ServerFrame::Rekey { key: "mst_agent_new".into(), grace_ms: 1 }).await;
    server.end.to_agent.send(Incoming::Text("{\"type\":\"dance\"}".into())).await.expect("sent");
    server.end.to_agent.send(Incoming::Text("[".repeat(1000))).await.expect("sent");
    server.send(ServerFrame::Drain { reconnect_delay_ms: 1_500 }).await;
    let (agent, ended) = server.ended().await;
    assert!(
        matches!(ended.end, SessionEnd::Drained(delay) if delay == Duration::from_millis(1_500))
    );
    use secrecy::ExposeSecret as _;
    assert_eq!(agent.keys.current().expose_secret(), "mst_agent_new");
    let server = Server::meet(agent);
    let close = Incoming::Closed { code: 4002, reason: "key_deleted".into() };
    server.end.to_agent.send(close).await.expect("sent");
    let (_, ended) = server.ended().await;
    assert!(!ended.was_registered);
    assert!(matches!(ended.end, SessionEnd::Closed { meaning: Some(CloseCode::KeyDeleted), .. }));
}

#[tokio::test]
async fn a_key_rejection_is_stored_across_restarts_until_a_server_accepts_the_key() {
    let host = Host::new();
    let mut agent = open_agent(&host);
    agent.record_key_rejection();
    drop(agent);
    let agent = open_agent(&host);
    assert!(agent.identity.key_rejected.is_some());
    let mut server = Server::meet(agent);
    server.greet().await;
    server.end().await;
    assert_eq!(open_agent(&host).identity.key_rejected, None);
}

#[tokio::test]
async fn a_host_that_is_enrolled_again_sets_its_ledger_aside() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    let (before, _) = server.greet().await;
    let (id, data) = execute(&host, "hello");
    server.command(id, "execute", data).await;
    server.response().await;
    let (mut agent, _) = server.end().await;
    agent.identity.agent_id = Some(Uuid::from_u128(99));
    let mut server = Server::meet(agent);
    server.epoch = 7;
    let registered = server.connect(Permissions::new(CommandName::ALL)).await;
    assert_eq!(registered.ledger_id, before.ledger_id);
    // Commands of this session would be lost in the next one, which has another ledger.
    let (agent, ended) = server.session.await.expect("the session");
    assert!(matches!(ended.end, SessionEnd::Drained(_)) && !ended.was_registered);
    let head = agent.executions.ledger().head();
    assert_ne!(Some(head.ledger_id), before.ledger_id);
    assert_eq!((head.acceptance_count, head.highest_epoch), (0, 7));
    let mut server = Server::meet(agent);
    let (registered, inventory) = server.greet().await;
    assert_eq!(registered.ledger_id, Some(head.ledger_id));
    assert!(inventory.is_empty(), "{inventory:?}");
    server.end().await;
}

#[tokio::test]
async fn a_changed_manifest_is_reported_and_a_removed_script_is_refused() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    list(&host, json!([]));
    let (id, data) = execute(&host, "hello");
    server.command(id, "execute", data).await;
    let reported = server.frame().await;
    assert!(
        matches!(&reported, AgentFrame::Manifest { manifest, .. } if manifest.scripts.is_empty())
    );
    assert_eq!(server.response().await.error_code.as_deref(), Some("unknown_script"));
    server.end().await;
}
