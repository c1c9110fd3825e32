//! Hands over from the supervisor of a container's image to the supervisor in its volume, which may
//! be another version.
//!
//! Does not choose versions (`update::image` does), and leaves the `exec` to its caller. If
//! anything fails, the image's own supervisor continues, so that the host stays managed.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::layout::Layout;
use crate::log::Log;
use crate::platform::{ForwardedSignal, ProcessController};
use crate::policy::ProcessExit;
use crate::update::image::{self, ImageChoice};
use muster_protocol::error_chain;

/// Time for a program's self-test.
const SELF_TEST_TIME: Duration = Duration::from_secs(10);

/// Which supervisor continues.
#[derive(Debug, PartialEq, Eq)]
pub enum HandoverDecision {
    /// This supervisor, with the programs of the volume.
    RunOwn,
    /// This supervisor, with the agent beside it: no program of the volume starts.
    RunOwnPrograms,
    /// The supervisor at this path.
    Exec(PathBuf),
    /// None: a stop signal arrived.
    Stop,
}

/// Offers the image's programs, which are beside this one, to the volume `program`, and decides
/// whether the volume's supervisor takes over.
pub fn decide(
    program: &Path,
    layout: &Layout,
    host: &mut ProcessController,
    log: &Log,
) -> HandoverDecision {
    if layout.is_own_version() {
        return HandoverDecision::RunOwn;
    }
    let own = muster_protocol::program::version::own();
    match own.parse().map(|version| image::offer(program, layout.own_dir(), &version)) {
        Ok(Ok(ImageChoice::Install)) => {
            log.info(format_args!("installed version {own} from the image"))
        }
        Ok(Ok(ImageChoice::Skip)) => {}
        Ok(Err(error)) => log.error(format_args!(
            "{}; check the volume's owner and free space",
            error_chain(&error)
        )),
        Err(_) => log.error(format_args!("the image's version `{own}` is not a valid version")),
    }
    let other = layout.current_supervisor();
    if !other.exists() {
        return HandoverDecision::RunOwn;
    }
    let self_test_args = ["self-test", "--"].map(OsString::from).into_iter();
    let self_test_args = self_test_args.chain(env::args_os().skip(1));
    let why = match self_test(&other, self_test_args, host) {
        SelfTestResult::Passed => return HandoverDecision::Exec(other),
        SelfTestResult::StopRequested => return HandoverDecision::Stop,
        SelfTestResult::Failed(why) => why,
    };
    log.error(format_args!("{} {why}; continuing with the image's supervisor", other.display()));
    let agent = layout.agent_binary();
    match self_test(&agent, ["version".into()], host) {
        SelfTestResult::Passed => HandoverDecision::RunOwn,
        SelfTestResult::StopRequested => HandoverDecision::Stop,
        SelfTestResult::Failed(why) => {
            log.error(format_args!(
                "{} {why}; continuing with the image's agent as well",
                agent.display()
            ));
            HandoverDecision::RunOwnPrograms
        }
    }
}

enum SelfTestResult {
    Passed,
    Failed(String),
    StopRequested,
}

/// Runs a program's self-test.
fn self_test(
    program: &Path,
    args: impl IntoIterator<Item = OsString>,
    host: &mut ProcessController,
) -> SelfTestResult {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    if let Err(error) = host.start_agent(&mut command) {
        return SelfTestResult::Failed(format!("could not be started: {error}"));
    }
    let until = Instant::now() + SELF_TEST_TIME;
    let mut is_stop_requested = false;
    let mut is_killed = false;
    loop {
        if host.take_request().is_some_and(|request| request != ForwardedSignal::HangUp) {
            is_stop_requested = true;
        }
        if let Some(end) = host.reap() {
            return match end {
                _ if is_stop_requested => SelfTestResult::StopRequested,
                ProcessExit::Exited(0) => SelfTestResult::Passed,
                _ if is_killed => {
                    SelfTestResult::Failed("did not finish its self-test in time".into())
                }
                _ => SelfTestResult::Failed(format!("failed its self-test: {end:?}")),
            };
        }
        let left = until.saturating_duration_since(Instant::now());
        if (left.is_zero() || is_stop_requested) && !is_killed {
            host.kill_agent();
            is_killed = true;
        }
        let rest = (!is_killed).then_some(left);
        if let Err(error) = host.wait(rest) {
            return SelfTestResult::Failed(format!("could not be waited for: {error}"));
        }
    }
}
