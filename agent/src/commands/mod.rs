//! One file per command. The functions are pure: they read and answer, and never store, send or
//! start anything.

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
        CommandName::Ping => Some(ping::answer()),
        CommandName::Info => Some(info::answer(context)),
        CommandName::Echo => Some(echo::answer(data)),
        CommandName::Scripts => Some(scripts::answer(context)),
        _ => None,
    }
}

/// The exit code and the answer of a lifecycle command; `None` for other commands.
pub fn lifecycle(command: CommandName) -> Option<(ExitCode, Value)> {
    let (code, note) = match command {
        CommandName::Restart => restart::exit(),
        CommandName::Shutdown => shutdown::exit(),
        _ => return None,
    };
    Some((code, json!({"exit_code": code.code(), "note": note})))
}

/// A successful response with its data.
pub fn success(command_id: Uuid, data: Value) -> Response {
    Response { command_id, success: true, data, error: None, error_code: None, outcome: None }
}
