//! The sentences that logs and `supervisor.json` give as reasons.
//!
//! Words only: decides nothing.

use std::io;
use std::path::Path;

use muster_protocol::release::{NO_SPACE_EXIT, Program, Version};

use crate::policy::{Cause, End, Fetch, Pace};

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
        Cause::Crash => crashed(end),
    }
}

/// A download that left no reason behind.
pub fn download_ended(end: End) -> String {
    match end {
        End::Exited(code) if code == i32::from(NO_SPACE_EXIT) => {
            "the disk with the agent's programs has no room for the release; make room, and ask again"
                .to_owned()
        }
        End::Exited(code) => format!("the download ended with {code}; see the log"),
        End::Signalled(signal) => format!("the download was ended by signal {signal}"),
        End::NotStarted => "the download could not be started; see the log".to_owned(),
    }
}

/// A program of the wished version that does not start here; the version before it stays.
pub fn self_test_failed(program: Program, version: &Version, end: End) -> String {
    let how = match end {
        End::Exited(code) => format!("ended with {code}"),
        End::Signalled(signal) => format!("was ended by signal {signal}"),
        End::NotStarted => "could not be started".to_owned(),
    };
    format!("{} of {version} {how} when it was tested on this host", program.file_name())
}

/// A version on trial whose agent ends.
pub fn trial_failed(version: &Version, end: End, times: u32) -> String {
    let often = if times == 1 { String::new() } else { format!(", {times} times") };
    format!("{version} did not register: {}{often}", crashed(end))
}

fn crashed(end: End) -> String {
    match end {
        End::Exited(code) => format!("the agent exited with {code}"),
        End::Signalled(signal) => format!("the agent was ended by signal {signal}"),
        End::NotStarted => "the agent could not be started".to_owned(),
    }
}
