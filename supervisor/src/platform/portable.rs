//! Any other system, with the standard library only. Unverified: the tests do not compile it.
//!
//! Without signals the agent's exit is polled four times a second, and a stop of the supervisor
//! ends it without asking the agent.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::forwarded_signal::ForwardedSignal;
use crate::policy::ProcessExit;

const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Starts, waits for and kills the one child process.
#[derive(Debug)]
pub struct ProcessController {
    agent: Option<Child>,
}

impl ProcessController {
    /// Registers nothing.
    ///
    /// # Errors
    /// None on this platform.
    pub fn new() -> io::Result<Self> {
        Ok(Self { agent: None })
    }

    /// Waits until the next poll.
    ///
    /// # Errors
    /// None on this platform.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        std::thread::sleep(timeout.map_or(POLL_INTERVAL, |timeout| timeout.min(POLL_INTERVAL)));
        Ok(())
    }

    /// No signals are received.
    pub fn take_request(&self) -> Option<ForwardedSignal> {
        None
    }

    /// Starts the agent. Only one child at a time.
    ///
    /// # Errors
    /// The system's error; no process was started.
    pub fn start_agent(&mut self, command: &mut Command) -> io::Result<u32> {
        let child = command.spawn()?;
        let id = child.id();
        self.agent = Some(child);
        Ok(id)
    }

    /// The agent's exit, once it has ended.
    pub fn reap(&mut self) -> Option<ProcessExit> {
        let status = self.agent.as_mut()?.try_wait().ok()??;
        self.agent = None;
        Some(status.code().map_or(ProcessExit::Signalled(0), ProcessExit::Exited))
    }

    /// Signals can't be sent.
    pub fn forward(&self, _request: ForwardedSignal) {}

    /// Kills the agent.
    pub fn kill_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
        }
    }
}

/// Not supported: the service manager starts the new program.
pub fn exec_program(_program: &Path, _arguments: impl Iterator<Item = OsString>) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Unknown on this platform.
pub fn is_folder_in_use(_folder: &Path) -> Option<bool> {
    None
}

/// Unknown on this platform.
pub fn is_alive(_pid: u32) -> bool {
    true
}

/// Unknown on this platform without another crate.
///
/// # Errors
/// Always.
pub fn free_bytes(_path: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not applicable on this platform.
pub fn is_init() -> bool {
    false
}

/// The default of the agent's state directory.
pub fn default_state_dir() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".muster")
}

/// Creating links needs privileges on this platform, and named pipes are elsewhere.
pub fn refuse_links_and_pipes(_options: &mut OpenOptions) {}
