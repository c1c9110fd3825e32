//! `update`: end so that the supervisor fetches the wanted release.
//!
//! The answer says that the update was begun. The supervisor's verdict on it is to take its place.

use muster_protocol::ExitCode;

pub fn ending() -> (ExitCode, &'static str) {
    (ExitCode::Update, "the agent ends for its supervisor to update it; running jobs go on")
}
