//! The responses of a simulated agent.

use muster_protocol::frame::{AgentFrame, ExecuteResult, Outcome, Response};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::FleetState;
use super::identity::Identity;
use super::socket::Socket;
use std::sync::atomic::Ordering;

/// The fields of a frame that decide what to do. Parsing only these keeps the fleet cheap.
#[derive(Deserialize)]
struct FrameHeader<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    command_id: Option<Uuid>,
    command: Option<&'a str>,
    #[serde(borrow)]
    receipt: Option<&'a str>,
}

/// Responds to one frame; true if something was queued.
pub async fn handle_frame(
    text: &str,
    identity: &mut Identity,
    state: &FleetState,
    socket: &mut Socket,
) -> anyhow::Result<bool> {
    let glance: FrameHeader<'_> = serde_json::from_str(text)?;
    match (glance.kind, glance.command_id) {
        ("ack", Some(_)) if glance.receipt.is_some() => {
            state.receipts.fetch_add(1, Ordering::Relaxed);
        }
        ("command", Some(id)) => {
            state.answers.fetch_add(1, Ordering::Relaxed);
            if glance.command == Some("execute") {
                execute(id, identity, state, socket).await?;
            } else {
                socket.feed(pong(id)).await?;
            }
            return Ok(true);
        }
        _ => {}
    }
    Ok(false)
}

/// Responds as if a process had run without output.
async fn execute(
    command_id: Uuid,
    identity: &mut Identity,
    state: &FleetState,
    socket: &mut Socket,
) -> anyhow::Result<()> {
    identity.acceptance_count += 1;
    let acceptance_count = identity.acceptance_count;
    socket.feed(text(&AgentFrame::Accepted { command_id, acceptance_count })?).await?;
    if state.plan.answer_execute {
        socket.feed(text(&AgentFrame::Started { command_id })?).await?;
        socket.feed(text(&AgentFrame::Response(executed(command_id)?))?).await?;
    }
    Ok(())
}

fn executed(command_id: Uuid) -> anyhow::Result<Response> {
    let result = ExecuteResult {
        exit_code: Some(0),
        signal: None,
        duration_ms: 3,
        output_bytes: 0,
        stdout_bytes: 0,
        stderr_bytes: 0,
        dropped_bytes: 0,
        output_complete: true,
        output_sha256: None,
        stdout_sha256: None,
        stderr_sha256: None,
        steps: Vec::new(),
        rehearsal: None,
    };
    Ok(Response {
        command_id,
        success: true,
        data: serde_json::to_value(result)?,
        error: None,
        error_code: None,
        outcome: Some(Outcome::Succeeded),
        attestation: None,
        call: None,
    })
}

fn pong(command_id: Uuid) -> String {
    let id = command_id.hyphenated();
    format!(r#"{{"type":"response","command_id":"{id}","success":true,"data":{{"pong":true}}}}"#)
}

/// A heartbeat with the telemetry of a real agent.
pub fn heartbeat() -> String {
    let status = json!({
        "cpu_percent": 3.5, "memory_percent": 41.25, "disk_percent": 63.0,
        "uptime_seconds": 86_400.0, "load_1m": 0.25, "running_executions": 0.0,
    });
    json!({"type": "heartbeat", "status": status}).to_string()
}

fn text(frame: &AgentFrame) -> anyhow::Result<String> {
    Ok(serde_json::to_string(frame)?)
}
