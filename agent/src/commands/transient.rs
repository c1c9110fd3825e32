//! Transient commands: answered at once and never stored.

use std::time::Duration;

use muster_protocol::CommandName;
use muster_protocol::manifest::Manifest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::timestamp;
use crate::identity::HostInfo;

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
        "uptime_seconds": sysinfo::System::uptime().ok(),
    })
}

/// Returns the message, or all of the data if there is no message.
fn echo(data: &Value) -> Value {
    match data.get("message") {
        Some(message) => json!({"message": message}),
        None => json!({"message": data}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_returns_the_message_or_all_of_the_data() {
        assert_eq!(echo(&json!({"message": "hi"})), json!({"message": "hi"}));
        assert_eq!(echo(&json!({"a": 1})), json!({"message": {"a": 1}}));
    }
}
