//! The output of executions in a session: in order, exact, acknowledged, and fair between executions.

use std::fs;

use crate::played_server::{Server, open_agent};
use crate::sessions::{execute, list};
use crate::support::Host;
use muster_agent::link::Outgoing;
use muster_protocol::frame::output::decode_frame;
use muster_protocol::frame::{
    AgentFrame, InventoryItem, InventoryState, Outcome, Receipt, decode_agent_frame,
};
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn output_of_a_listed_command_waits_for_its_offset_and_continues_from_there() {
    let host = Host::new();
    host.script("count.sh", "for i in 1 2 3 4; do printf 'line %s\\n' $i; done");
    list(&host, json!([{"name": "count", "path": "count.sh", "interpreter": "/bin/sh"}]));
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let (id, data) = execute(&host, "count");
    server.command(id, "execute", data).await;
    let (whole, first) = server.output(id, 0).await;
    let (agent, _) = server.end().await;

    let mut server = Server::meet(agent);
    let (_, inventory) = server.greet().await;
    let listed = InventoryItem { command_id: id, state: InventoryState::Settled, offset_bytes: 28 };
    assert_eq!(inventory, [listed]);
    // Nothing comes of it before the acknowledgement: what is asked now is answered first.
    server.command(Uuid::from_u128(3), "ping", json!({})).await;
    let AgentFrame::Response(pong) = server.frame().await else { panic!("only the pong") };
    assert_eq!(pong.data["pong"], true);
    server.ack(id, Some(10), None).await;
    let (rest, second) = server.output(id, 10).await;
    assert_eq!(rest, whole[10..]);
    assert_eq!(second, first);
    server.ack(id, None, Some(Receipt::Late)).await;
    // Answered after the receipt was taken in.
    server.command(Uuid::from_u128(4), "ping", json!({})).await;
    server.response().await;
    let (agent, _) = server.end().await;
    let mut server = Server::meet(agent);
    let (_, inventory) = server.greet().await;
    assert!(inventory.is_empty(), "{inventory:?}");
    server.end().await;
}

#[tokio::test]
async fn a_result_is_not_sent_before_its_output_can_be_read() {
    let host = Host::new();
    host.script("say.sh", "echo something");
    list(&host, json!([{"name": "say", "path": "say.sh", "interpreter": "/bin/sh"}]));
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let (id, data) = execute(&host, "say");
    server.command(id, "execute", data).await;
    server.output(id, 0).await;
    let (agent, _) = server.end().await;
    let output = host.state.execution(id).output();
    let aside = output.with_extension("aside");
    fs::rename(&output, &aside).expect("moved");
    // It can be opened and not be read.
    fs::create_dir(&output).expect("created");
    let mut server = Server::meet(agent);
    server.greet().await;
    server.ack(id, Some(0), None).await;
    server.command(Uuid::from_u128(3), "ping", json!({})).await;
    let AgentFrame::Response(pong) = server.frame().await else { panic!("only the pong") };
    assert_eq!(pong.data["pong"], true);
    fs::remove_dir(&output).expect("removed");
    fs::rename(&aside, &output).expect("moved");
    server.ack(id, Some(0), None).await;
    let (whole, response) = server.output(id, 0).await;
    assert_eq!(whole, b"something\n");
    assert_eq!(response.outcome, Some(Outcome::Succeeded));
    server.end().await;
}

#[tokio::test]
async fn a_server_that_has_more_output_than_the_host_receives_nothing_twice() {
    let host = Host::new();
    host.script("two.sh", "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two");
    list(&host, json!([{"name": "two", "path": "two.sh", "interpreter": "/bin/sh"}]));
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let (id, data) = execute(&host, "two");
    server.command(id, "execute", data).await;
    while !matches!(server.next().await, Outgoing::Binary(_)) {}
    let (agent, _) = server.end().await;
    let mut server = Server::meet(agent);
    server.greet().await;
    server.ack(id, Some(1_000), None).await;
    fs::write(host.state.scripts().join("go"), "").expect("written");
    let (rest, response) = server.output(id, 1_000).await;
    assert_eq!(rest, b"");
    assert_eq!(response.data["output_bytes"], 8);
    server.end().await;
}

#[tokio::test]
async fn output_waits_for_acknowledgements_and_a_noisy_execution_does_not_block_others() {
    let host = Host::new();
    host.script("noise.sh", "head -c 9000000 /dev/zero");
    list(&host, json!([{"name": "noise", "path": "noise.sh", "interpreter": "/bin/sh"}]));
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let (id, data) = execute(&host, "noise");
    server.command(id, "execute", data).await;
    let (mut at, mut frames) = (0, 0);
    // Without an acknowledgement, only a little leaves; the answers to pings pass.
    for ping in 3.. {
        let before = at;
        server.command(Uuid::from_u128(ping), "ping", json!({})).await;
        loop {
            match server.next().await {
                Outgoing::Binary(bytes) => {
                    at += decode_frame(&bytes).expect("well formed").payload_bytes;
                    frames += 1;
                }
                Outgoing::Text(text) if text.contains("pong") => break,
                Outgoing::Text(_) => {}
            }
        }
        // The script may be slower than the first pings.
        if at > 0 && at == before {
            break;
        }
    }
    assert!(at < 64 * 1024 && frames < 10, "{at} bytes in {frames} frames");
    server.ack(id, Some(at), None).await;
    let (rest, response) = server.output(id, at).await;
    assert_eq!(at + rest.len() as u64, 9_000_000);
    assert_eq!(response.data["output_bytes"], 9_000_000);
    server.end().await;
}

#[tokio::test]
async fn output_that_the_server_does_not_store_holds_up_that_of_others_for_a_while_only() {
    let host = Host::new();
    host.script("noise.sh", "head -c 2000000 /dev/zero");
    host.script("hello.sh", "echo hello");
    list(
        &host,
        json!([
            {"name": "noise", "path": "noise.sh", "interpreter": "/bin/sh"},
            {"name": "hello", "path": "hello.sh", "interpreter": "/bin/sh"},
        ]),
    );
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let (noise, data) = execute(&host, "noise");
    server.command(noise, "execute", data).await;
    // It fills the window, and the server, whose disk is full, acknowledges none of it.
    let mut unstored = 0;
    while unstored < 2_000 {
        if let Outgoing::Binary(bytes) = server.next().await {
            unstored += decode_frame(&bytes).expect("well formed").payload_bytes;
        }
    }
    let (hello, data) = execute(&host, "hello");
    server.command(hello, "execute", data).await;
    loop {
        match server.next().await {
            Outgoing::Binary(bytes) => {
                let frame = decode_frame(&bytes).expect("well formed");
                if frame.command_id == hello {
                    server.ack(hello, Some(frame.payload_bytes), None).await;
                } else {
                    unstored += frame.payload_bytes;
                }
            }
            Outgoing::Text(text) => match decode_agent_frame(&text) {
                Ok(AgentFrame::Response(response)) if response.command_id == hello => break,
                _ => {}
            },
        }
    }
    // The server passed over it, so no more of it is sent in vain.
    assert!(unstored < 10_000, "{unstored} bytes");
    // Once the server stores it, the rest follows.
    server.ack(noise, Some(unstored), None).await;
    let (rest, response) = server.output(noise, unstored).await;
    assert_eq!(unstored + rest.len() as u64, 2_000_000);
    assert_eq!(response.command_id, noise);
    server.end().await;
}
