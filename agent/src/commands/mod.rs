//! The commands. The functions are pure: they read and answer, and never store, send or start
//! anything.

pub mod decision;
pub mod execute;
mod transient;
pub mod update;

use muster_protocol::frame::Response;
use muster_protocol::{CommandName, ExitCode};
use serde_json::{Value, json};
use uuid::Uuid;

pub use transient::{CommandContext, answer};

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
    }
}
