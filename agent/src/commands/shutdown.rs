//! `shutdown`: exit without being started again.

use muster_protocol::ExitCode;

pub fn exit() -> (ExitCode, &'static str) {
    (ExitCode::Stop, "the agent stops and is not restarted; running executions continue")
}
