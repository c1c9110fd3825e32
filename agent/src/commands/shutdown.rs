//! `shutdown`: end, and stay ended.

use muster_protocol::ExitCode;

pub fn exit() -> (ExitCode, &'static str) {
    (ExitCode::Stop, "the agent stops and stays stopped; running executions go on")
}
