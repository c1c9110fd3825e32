//! What a hostile server can make a host hold.

use std::fs;

use crate::played_server::{Server, open_agent_with};
use crate::support::Host;
use muster_agent::agent::Agent;
use muster_protocol::frame::{AgentFrame, Outcome, Receipt, Response, ServerFrame};
use serde_json::json;
use uuid::Uuid;

/// The bound for a host with one execution at a time.
const LIMIT: usize = 64;

/// A host with one execution at a time, whose script `block` waits for a file.
fn host() -> (Host, Agent) {
    let host = Host::new();
    host.script("block.sh", "while [ ! -e go ]; do sleep 0.02; done");
    let manifest = json!({"scripts": [{"name": "block", "path": "block.sh"}]});
    fs::write(host.state.manifest(), manifest.to_string()).expect("written");
    let agent = open_agent_with(&host, 1);
    (host, agent)
}

fn folders(host: &Host) -> usize {
    fs::read_dir(host.state.executions()).expect("listed").count()
}

/// Sends an execution and returns its id with its refusal, if it is refused.
async fn execute(host: &Host, server: &mut Server) -> (Uuid, Option<Response>) {
    let id = Uuid::now_v7();
    host.note(id);
    server.command(id, "execute", json!({"script": "block"})).await;
    loop {
        match server.frame().await {
            AgentFrame::Accepted { command_id, .. } if command_id == id => return (id, None),
            AgentFrame::Response(response) if response.command_id == id => {
                return (id, Some(response));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_server_that_sends_commands_without_end_fills_neither_the_disk_nor_the_table() {
    let (host, agent) = host();
    let mut server = Server::meet(agent);
    server.greet().await;
    let mut accepted = Vec::new();
    for number in 0..3 * LIMIT {
        let (id, refusal) = execute(&host, &mut server).await;
        assert_eq!(refusal.is_none(), number < LIMIT, "command {number}");
        match refusal {
            None => accepted.push(id),
            Some(refusal) => {
                assert_eq!(refusal.error_code.as_deref(), Some("too_many_commands"));
                assert_eq!(refusal.outcome, Some(Outcome::Rejected));
            }
        }
    }
    assert_eq!(folders(&host), LIMIT);

    // Results that the server does not acknowledge count too, and none of them is discarded.
    fs::write(host.state.scripts().join("go"), "").expect("written");
    let mut reported = Vec::new();
    while reported.len() < LIMIT {
        let response = server.response().await;
        assert_eq!(response.outcome, Some(Outcome::Succeeded), "{response:?}");
        reported.push(response.command_id);
    }
    reported.sort();
    accepted.sort();
    assert_eq!(reported, accepted);
    let (_, refusal) = execute(&host, &mut server).await;
    assert_eq!(refusal.and_then(|it| it.error_code).as_deref(), Some("too_many_commands"));
    let (agent, _) = server.end().await;
    assert_eq!(agent.executions.inventory().len(), LIMIT);

    let mut server = Server::meet(agent);
    server.greet().await;
    server.ack(accepted[0], None, Some(Receipt::Recorded)).await;
    let (id, refusal) = execute(&host, &mut server).await;
    assert_eq!(refusal, None, "an acknowledgement makes space");
    while server.response().await.command_id != id {}
    server.end().await;
}

#[tokio::test]
async fn cancellations_of_unknown_commands_are_bounded_and_push_out_no_result() {
    let (host, agent) = host();
    fs::write(host.state.scripts().join("go"), "").expect("written");
    let mut server = Server::meet(agent);
    server.greet().await;
    let (done, _) = execute(&host, &mut server).await;
    while server.response().await.command_id != done {}
    let unknown: Vec<_> = (0..3 * LIMIT).map(|_| Uuid::now_v7()).collect();
    for command_id in &unknown {
        server.send(ServerFrame::Cancel { command_id: *command_id, grace_ms: 0 }).await;
        while server.response().await.command_id != *command_id {}
    }
    assert_eq!(folders(&host), LIMIT + 1);
    let (agent, _) = server.end().await;
    assert_eq!(agent.executions.inventory().len(), LIMIT + 1);
    drop(agent);

    // The newest cancellations hold across a restart.
    let mut server = Server::meet(open_agent_with(&host, 1));
    let (_, inventory) = server.greet().await;
    assert!(inventory.iter().any(|item| item.command_id == done), "the result is kept");
    let newest = unknown[unknown.len() - LIMIT];
    server.command(newest, "execute", json!({"script": "block"})).await;
    let response = loop {
        let response = server.response().await;
        if response.command_id == newest {
            break response;
        }
    };
    assert_eq!(response.outcome, Some(Outcome::Cancelled), "{response:?}");
    server.end().await;
}
