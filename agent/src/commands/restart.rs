//! `restart`: exit so that the supervisor starts the agent again.

use muster_protocol::ExitCode;

pub fn exit() -> (ExitCode, &'static str) {
    (ExitCode::Restart, "the agent restarts; running executions continue")
}
