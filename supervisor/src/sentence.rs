//! The sentences that logs and `supervisor.json` give as reasons.
//!
//! Words only: decides nothing.

use std::io;
use std::path::Path;

use crate::policy::{Cause, End, Pace};
use crate::release::Fetch;

/// After an exit with 0.
pub const STOPPED: &str = "the agent stopped on purpose (0)";

/// After an exit with 99; `told` is what the agent left behind.
pub fn fatal(told: Option<&str>) -> String {
    match told {
        Some(told) => format!("the agent cannot work as configured (99): {told}"),
        None => "the agent cannot work as configured (99); its log says why".to_owned(),
    }
}

/// The agent could not be started.
pub fn not_started(binary: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; is the agent installed there?",
        io::ErrorKind::PermissionDenied => "; is it executable, and its file system not noexec?",
        _ => "",
    };
    format!("failed to start the agent {}: {error}{hint}", binary.display())
}

/// An end that is followed by another start.
pub fn ended(end: End, cause: Cause, pace: Pace) -> String {
    let too_often = match pace {
        Pace::Now => "",
        Pace::Backoff => ", again and again: slowing down",
    };
    match cause {
        Cause::Asked => format!("the agent asked to be restarted (42){too_often}"),
        Cause::Release(Fetch::Wanted) => {
            format!("the agent asked for the wanted release (43){too_often}")
        }
        Cause::Release(Fetch::CurrentAfresh) => {
            format!("the agent asked for its release afresh (44){too_often}")
        }
        Cause::Crash => match end {
            End::Exited(code) => format!("the agent exited with {code}"),
            End::Signalled(signal) => format!("the agent was ended by signal {signal}"),
            End::NotStarted => "the agent could not be started".to_owned(),
        },
    }
}
