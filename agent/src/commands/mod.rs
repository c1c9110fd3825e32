//! The commands, a file each. Pure: they look and answer; nothing here is stored, sent or started.

pub mod decision;
mod echo;
pub mod execute;
mod info;
mod ping;
mod restart;
mod scripts;
mod shutdown;
pub mod update;

use std::time::Duration;

use muster_protocol::frame::Response;
use muster_protocol::manifest::Manifest;
use muster_protocol::{CommandName, ExitCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::identity::HostInfo;

/// What transient commands may look at.
pub struct CommandContext<'a> {
    pub host_info: &'a HostInfo,
    pub agent_id: Option<Uuid>,
    /// Since the agent's process began.
    pub running_for: Duration,
    pub manifest: &'a Manifest,
}

/// The data of a transient command's answer; `None` for commands that are not transient.
pub fn answer(command: CommandName, data: &Value, context: &CommandContext<'_>) -> Option<Value> {
    match command {
        CommandName::Ping => Some(ping::answer()),
        CommandName::Info => Some(info::answer(context)),
        CommandName::Echo => Some(echo::answer(data)),
        CommandName::Scripts => Some(scripts::answer(context)),
        _ => None,
    }
}

/// How the agent's process ends for a lifecycle command, and what it says to that; `None` for the
/// others.
pub fn lifecycle(command: CommandName) -> Option<(ExitCode, Value)> {
    let (code, note) = match command {
        CommandName::Restart => restart::exit(),
        CommandName::Shutdown => shutdown::exit(),
        _ => return None,
    };
    Some((code, json!({"exit_code": code.code(), "note": note})))
}

/// A success with its data.
pub fn success(command_id: Uuid, data: Value) -> Response {
    Response { command_id, success: true, data, error: None, error_code: None, outcome: None }
}
