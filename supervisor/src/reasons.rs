//! The reasons that logs and `supervisor.json` give for a state. Wording only: decides nothing.

use std::io;
use std::path::Path;

use muster_protocol::release::{NO_SPACE_EXIT, Program, Version};

use crate::policy::{Cause, ProcessExit, ReleaseRequest, RestartDelay};

/// The agent exited with 0.
pub const STOPPED: &str = "the agent stopped on request (0)";

/// The agent exited with 99; `reported` is the reason that it left.
pub fn fatal(reported: Option<&str>) -> String {
    match reported {
        Some(reason) => format!("the agent can't work as configured (99): {reason}"),
        None => "the agent can't work as configured (99); see its log".to_owned(),
    }
}

/// The agent could not be started.
pub fn not_started(binary: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; is the agent installed?",
        io::ErrorKind::PermissionDenied => {
            "; is the file executable, and the file system mounted without noexec?"
        }
        _ => "",
    };
    format!("failed to start the agent {}: {error}{hint}", binary.display())
}

/// The agent ended and will be restarted.
pub fn ended(end: ProcessExit, cause: Cause, delay: RestartDelay) -> String {
    let too_often = match delay {
        RestartDelay::Immediate => "",
        RestartDelay::Backoff => " too often; slowing down",
    };
    match cause {
        Cause::RestartRequested => format!("the agent requested a restart (42){too_often}"),
        Cause::ReleaseRequested(ReleaseRequest::Desired) => {
            format!("the agent requested an update (43){too_often}")
        }
        Cause::ReleaseRequested(ReleaseRequest::Reinstall) => {
            format!("the agent requested a reinstallation (44){too_often}")
        }
        Cause::Crash => crashed(end),
    }
}

/// A download failed without reporting a reason.
pub fn download_failed(end: ProcessExit) -> String {
    match end {
        ProcessExit::Exited(code) if code == i32::from(NO_SPACE_EXIT) => {
            "the disk with the agent's programs is full; free space and request the update again"
                .to_owned()
        }
        ProcessExit::Exited(code) => format!("the download exited with {code}; see the log"),
        ProcessExit::Signalled(signal) => format!("the download was killed by signal {signal}"),
        ProcessExit::NotStarted => "the download could not be started; see the log".to_owned(),
    }
}

/// A program of the requested version failed its self-test; the previous version stays.
pub fn self_test_failed(program: Program, version: &Version, end: ProcessExit) -> String {
    let how = match end {
        ProcessExit::Exited(code) => format!("exited with {code}"),
        ProcessExit::Signalled(signal) => format!("was killed by signal {signal}"),
        ProcessExit::NotStarted => "could not be started".to_owned(),
    };
    format!("{} of version {version} {how} in its self-test on this host", program.file_name())
}

/// The agent of a version on trial ended without registering, for the `times`-th time.
pub fn trial_failed(version: &Version, end: ProcessExit, times: u32) -> String {
    let often = if times == 1 { String::new() } else { format!(", {times} times") };
    format!("version {version} did not register: {}{often}", crashed(end))
}

fn crashed(end: ProcessExit) -> String {
    match end {
        ProcessExit::Exited(code) => format!("the agent exited with {code}"),
        ProcessExit::Signalled(signal) => format!("the agent was killed by signal {signal}"),
        ProcessExit::NotStarted => "the agent could not be started".to_owned(),
    }
}
