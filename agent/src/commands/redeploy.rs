//! `redeploy`: end so that the supervisor fetches the current release afresh.

use muster_protocol::ExitCode;

pub fn ending() -> (ExitCode, &'static str) {
    (ExitCode::Redeploy, "the agent ends for its supervisor to fetch it afresh; running jobs go on")
}
