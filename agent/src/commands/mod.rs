//! The commands, and the answers of the transient ones. The functions are pure: they read and answer, and never store, send or start
//! anything.

mod approval;
pub mod decision;
pub mod execute;
pub mod file;
mod file_refusal;
pub mod library;
mod library_refusal;
pub mod package;
pub mod plan;
pub mod planned;
pub mod probe;
mod steps;
pub mod task;

pub use self::approval::is_needed as needs_capsule;

use std::time::Duration;

use muster_protocol::frame::Response;
use muster_protocol::manifest::Manifest;
use muster_protocol::{CommandName, ExitCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::timestamp;
use crate::identity::HostInfo;

/// The exit code and the answer of a lifecycle command; `None` for other commands.
pub fn lifecycle(command: CommandName) -> Option<(ExitCode, Value)> {
    let (code, note) = match command {
        CommandName::Restart => {
            (ExitCode::Restart, "the agent restarts; running executions continue")
        }
        CommandName::Shutdown => {
            (ExitCode::Stop, "the agent stops and is not restarted; running executions continue")
        }
        _ => return None,
    };
    Some((code, json!({"exit_code": code.code(), "note": note})))
}

/// A successful response with its data.
pub fn success(command_id: Uuid, data: Value) -> Response {
    Response {
        command_id,
        success: true,
        data,
        error: None,
        error_code: None,
        outcome: None,
        attestation: None,
        call: None,
    }
}

/// What transient commands may read.
pub struct CommandContext<'a> {
    pub host_info: &'a HostInfo,
    pub agent_id: Option<Uuid>,
    /// How long the agent's process has been running.
    pub running_for: Duration,
    pub manifest: &'a Manifest,
}

/// The answer of a transient command; `None` for commands that are not transient.
pub fn answer(command: CommandName, data: &Value, context: &CommandContext<'_>) -> Option<Value> {
    match command {
        CommandName::Ping => Some(json!({"pong": true, "timestamp": timestamp()})),
        CommandName::Info => Some(info(context)),
        CommandName::Echo => Some(echo(data)),
        CommandName::Scripts => Some(json!({"scripts": context.manifest.scripts})),
        _ => None,
    }
}

/// Describes the host.
fn info(context: &CommandContext<'_>) -> Value {
    let host_info = context.host_info;
    json!({
        "agent_id": context.agent_id,
        "hostname": host_info.hostname,
        "ip": host_info.ip,
        "os": host_info.os,
        "arch": host_info.arch,
        "version": host_info.version,
        "protocol": host_info.protocol,
        "agent_uptime_seconds": context.running_for.as_secs(),
        // A field of the basic protocol, whose first agents were Python programs.
        "python_version": null,
        "uptime_seconds": sysinfo::System::uptime().ok(),
    })
}

/// Returns the message; an empty one if there is none, because clients read it as text.
fn echo(data: &Value) -> Value {
    let message = data.get("message").filter(|message| !message.is_null());
    json!({"message": message.unwrap_or(&Value::from(""))})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_returns_the_message_or_an_empty_one() {
        assert_eq!(echo(&json!({"message": "hi"})), json!({"message": "hi"}));
        assert_eq!(echo(&json!({"message": {"a": 1}})), json!({"message": {"a": 1}}));
        for data in [json!({}), json!(null), json!({"a": 1}), json!({"message": null})] {
            assert_eq!(echo(&data), json!({"message": ""}), "{data}");
        }
    }
}
