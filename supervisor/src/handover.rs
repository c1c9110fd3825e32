//! From the supervisor of a container's image to the one in the container's volume, which may be
//! another version: the image's is only the first step, and the last resort.
//!
//! Knows no versions (`update::image` chooses) and leaves it to its caller to become the other
//! program. Whatever fails here, the image's own supervisor goes on: a host stays on duty.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::layout::Layout;
use crate::log::{Log, chain};
use crate::platform::{Host, Request};
use crate::policy::End;
use crate::update::image::{self, Choice};

/// For a program to show that it starts here.
const SELF_TEST_TIME: Duration = Duration::from_secs(10);

/// Who goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The supervisor that runs.
    Own,
    /// The supervisor that runs, with the agent beside it: nothing in the volume starts.
    OwnAlone,
    /// The one that lies there.
    Other(PathBuf),
    /// Nobody: a stop was asked for meanwhile.
    Stopped,
}

/// Offers the image's programs, which lie beside the one that runs, to the volume `program`, and
/// finds out whether the volume's supervisor can take over.
pub fn prepare(program: &Path, layout: &Layout, host: &mut Host, log: &Log) -> Next {
    if layout.is_own_version() {
        return Next::Own;
    }
    let own = muster_protocol::version::own();
    match own.parse().map(|version| image::offer(program, layout.own_dir(), &version)) {
        Ok(Ok(Choice::Take)) => log.info(format_args!("version {own} of the image is taken")),
        Ok(Ok(Choice::Keep)) => {}
        Ok(Err(error)) => log.error(format_args!(
            "failed to {}; check who owns the volume, and its room",
            chain(&error)
        )),
        Err(_) => log.error(format_args!("the image's version `{own}` is none")),
    }
    let other = layout.current_supervisor();
    if !other.exists() {
        return Next::Own;
    }
    let with_own_words = ["self-test", "--"].map(OsString::from).into_iter();
    let with_own_words = with_own_words.chain(env::args_os().skip(1));
    let why = match self_test(&other, with_own_words, host) {
        Tested::Starts => return Next::Other(other),
        Tested::StopAsked => return Next::Stopped,
        Tested::Fails(why) => why,
    };
    log.error(format_args!("{} {why}; the image's supervisor goes on", other.display()));
    let agent = layout.agent_binary();
    match self_test(&agent, ["version".into()], host) {
        Tested::Starts => Next::Own,
        Tested::StopAsked => Next::Stopped,
        Tested::Fails(why) => {
            log.error(format_args!("{} {why}; the image's agent goes on as well", agent.display()));
            Next::OwnAlone
        }
    }
}

enum Tested {
    Starts,
    Fails(String),
    StopAsked,
}

/// Whether a program starts here that is asked for no more than to say so.
fn self_test(program: &Path, words: impl IntoIterator<Item = OsString>, host: &mut Host) -> Tested {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    if let Err(error) = host.start_agent(&mut command) {
        return Tested::Fails(format!("can't be started: {error}"));
    }
    let until = Instant::now() + SELF_TEST_TIME;
    let mut is_stop_asked = false;
    let mut is_killed = false;
    loop {
        if host.take_request().is_some_and(|request| request != Request::HangUp) {
            is_stop_asked = true;
        }
        if let Some(end) = host.reap() {
            return match end {
                _ if is_stop_asked => Tested::StopAsked,
                End::Exited(0) => Tested::Starts,
                _ if is_killed => Tested::Fails("does not end its self-test".into()),
                _ => Tested::Fails(format!("fails its self-test: {end:?}")),
            };
        }
        let left = until.saturating_duration_since(Instant::now());
        if (left.is_zero() || is_stop_asked) && !is_killed {
            host.kill_agent();
            is_killed = true;
        }
        let rest = (!is_killed).then_some(left);
        if let Err(error) = host.wait(rest) {
            return Tested::Fails(format!("can't be waited for: {error}"));
        }
    }
}
