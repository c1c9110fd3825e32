//! `shutdown`: end, and stay ended.

use muster_protocol::ExitCode;

pub fn ending() -> (ExitCode, &'static str) {
    (ExitCode::Stop, "the agent stops and stays stopped; running jobs go on")
}
