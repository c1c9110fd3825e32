//! Runs one program of `facts.d`, and ends everything that it has started.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use muster_protocol::facts::MAX_FACTS_BYTES;

use crate::executions::environment::{allowed, for_account};
use crate::executions::shim::process_end::kill_descendants;
use crate::platform::{self, Account, Signal};

/// Most bytes of a file, and of the output of a program.
pub(super) const MAX_SOURCE_BYTES: usize = 2 * MAX_FACTS_BYTES;
/// How long a program may run.
const PROGRAM_TIME: Duration = Duration::from_secs(10);
/// Poll interval where the end of a child can't be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The standard output of a program. `until`: when all programs must have ended.
///
/// # Errors
/// A sentence that explains why the output does not count.
pub(super) fn output(
    path: &Path,
    account: Option<&Account>,
    until: Instant,
    watches_input: bool,
) -> Result<String, String> {
    if Instant::now() >= until {
        return Err("it was not run: the programs before it took too long".into());
    }
    let until = until.min(Instant::now() + PROGRAM_TIME);
    let mut child =
        start(path, account).map_err(|error| format!("it can't be started: {error}"))?;
    let read = read(&mut child, until, watches_input);
    platform::signal_group(child.id(), Signal::Kill);
    if !kill_descendants() {
        return Err("what it has started could not be ended".into());
    }
    let bytes = read.map_err(|error| error.to_string())??;
    String::from_utf8(bytes).map_err(|_| "its output is not UTF-8".to_owned())
}

fn start(path: &Path, account: Option<&Account>) -> io::Result<Child> {
    let mut command = Command::new(path);
    command
        .current_dir("/")
        .env_clear()
        .envs(allowed())
        .envs(account.into_iter().flat_map(for_account))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(account) = account.cloned() {
        // SAFETY: between fork and exec nothing is allocated and no lock is taken, and this process
        // has only one thread, so no other thread can hold a lock.
        unsafe { command.pre_exec(move || account.become_user()) };
    }
    command.spawn()
}

fn read(
    child: &mut Child,
    until: Instant,
    watches_input: bool,
) -> io::Result<Result<Vec<u8>, String>> {
    let Some(mut stdout) = child.stdout.take() else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    platform::set_nonblocking(stdout.as_fd())?;
    let process = platform::open_process(child.id()).ok();
    let input = io::stdin();
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let mut is_open = true;
    loop {
        // Before the read: what it wrote before its end is in the pipe then.
        let ended = child.try_wait()?;
        loop {
            match stdout.read(&mut buffer) {
                Ok(0) => {
                    is_open = false;
                    break;
                }
                Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if bytes.len() > MAX_SOURCE_BYTES {
                return Ok(Err(format!("it printed more than {MAX_SOURCE_BYTES} bytes")));
            }
        }
        match ended {
            Some(status) if status.success() => return Ok(Ok(bytes)),
            Some(status) => return Ok(Err(format!("it failed: {status}"))),
            None => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(format!("it ran longer than {} s", PROGRAM_TIME.as_secs())));
        }
        let ready = platform::wait_readable(
            [
                is_open.then(|| stdout.as_fd()),
                process.as_ref().map(|process| process.as_fd()),
                watches_input.then(|| input.as_fd()),
            ],
            Some(if process.is_some() { left } else { left.min(POLL_INTERVAL) }),
        )?;
        if ready[2] {
            return Ok(Err("the agent has ended".into()));
        }
    }
}
