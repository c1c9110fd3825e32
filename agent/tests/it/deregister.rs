//! The last session of a host that leaves, with a server that a test plays by hand.

use muster_agent::agent::Agent;
use muster_agent::sessions::SessionEnd;
use muster_protocol::frame::{AgentFrame, InventoryState, Outcome, Receipt, ServerFrame};
use serde_json::json;
use uuid::Uuid;

use crate::played_server::{Server, open_agent, open_agent_with};
use crate::support::Host;

/// An agent that starts nothing, as one that leaves the fleet.
fn open_leaving(host: &Host) -> Agent {
    open_agent_with(host, 0)
}

#[tokio::test]
async fn waiting_commands_are_cancelled_and_reported_before_the_host_asks_to_be_deleted() {
    let host = Host::new();
    let mut agent = open_leaving(&host);
    let script = host.script("never.sh", "echo never");
    let command = host.command(script);
    let id = command.command_id;
    assert!(agent.executions.accept(vec![command])[0].1.is_ok());
    let mut server = Server::meet_leaving(agent);
    let (registration, inventory) = server.greet().await;
    assert_eq!(registration.max_executions, Some(0), "it is to be sent nothing");
    let listed: Vec<_> = inventory.iter().map(|item| (item.command_id, item.state)).collect();
    assert_eq!(listed, [(id, InventoryState::Settled)]);
    server.ack(id, Some(0), None).await;
    let response = server.response().await;
    assert_eq!((response.command_id, response.outcome), (id, Some(Outcome::Cancelled)));
    server.ack(id, None, Some(Receipt::Recorded)).await;
    assert_eq!(server.frame().await, AgentFrame::Deregister);
    server.send(ServerFrame::Deregistered).await;
    let (_, ended) = server.ended().await;
    assert!(matches!(ended.end, SessionEnd::Deregistered));
}

#[tokio::test]
async fn a_host_with_nothing_to_report_asks_at_once_and_refuses_later_commands() {
    let host = Host::new();
    let mut server = Server::meet_leaving(open_leaving(&host));
    server.greet().await;
    assert_eq!(server.frame().await, AgentFrame::Deregister);
    let id = Uuid::now_v7();
    server.command(id, "execute", json!({"script": "hello"})).await;
    let response = server.response().await;
    assert_eq!(response.outcome, Some(Outcome::Rejected));
    assert_eq!(response.error_code.as_deref(), Some("host_leaving"));
    server.send(ServerFrame::Deregistered).await;
    let (_, ended) = server.ended().await;
    assert!(matches!(ended.end, SessionEnd::Deregistered));
}

#[tokio::test]
async fn an_unrequested_deregistration_is_ignored() {
    let host = Host::new();
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    server.send(ServerFrame::Deregistered).await;
    let id = Uuid::now_v7();
    server.command(id, "ping", json!({})).await;
    assert!(server.response().await.success);
    let (agent, ended) = server.end().await;
    assert!(matches!(ended.end, SessionEnd::Stopped));
    assert!(agent.is_enrolled());
}
