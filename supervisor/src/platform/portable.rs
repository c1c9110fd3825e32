//! Any other system, from the standard library alone. Unverified: not compiled by the tests.
//!
//! Without signals the end of the agent is looked for four times a second, and a request to stop
//! the supervisor ends it without asking the agent.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::Request;
use crate::policy::End;

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// This process's view of its one child.
#[derive(Debug)]
pub struct Host {
    agent: Option<Child>,
}

impl Host {
    /// Takes over nothing.
    ///
    /// # Errors
    /// None; other systems have some.
    pub fn new() -> io::Result<Self> {
        Ok(Self { agent: None })
    }

    /// Rests until it is time to look again.
    ///
    /// # Errors
    /// None; other systems have some.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        std::thread::sleep(
            timeout.map_or(LOOK_AGAIN_AFTER, |timeout| timeout.min(LOOK_AGAIN_AFTER)),
        );
        Ok(())
    }

    /// Nothing is heard from outside.
    pub fn take_request(&self) -> Option<Request> {
        None
    }

    /// Starts the agent; only one at a time.
    ///
    /// # Errors
    /// What the system said; no process is left then.
    pub fn start_agent(&mut self, command: &mut Command) -> io::Result<u32> {
        let child = command.spawn()?;
        let id = child.id();
        self.agent = Some(child);
        Ok(id)
    }

    /// The agent's end, once it has ended.
    pub fn reap(&mut self) -> Option<End> {
        let status = self.agent.as_mut()?.try_wait().ok()??;
        self.agent = None;
        Some(status.code().map_or(End::Signalled(0), End::Exited))
    }

    /// There is no way to ask.
    pub fn pass_on(&self, _request: Request) {}

    /// Ends the agent at once.
    pub fn kill_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
        }
    }
}

/// There is no such thing here: the service manager starts the new one.
pub fn become_program(_program: &Path, _arguments: impl Iterator<Item = OsString>) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Nobody can tell.
pub fn runs_from(_folder: &Path) -> Option<bool> {
    None
}

/// There is no telling.
pub fn is_alive(_pid: u32) -> bool {
    true
}

/// Nobody can tell without another crate.
///
/// # Errors
/// Always.
pub fn free_bytes(_path: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There is no such role here.
pub fn is_init() -> bool {
    false
}

/// Where the agent keeps its state unless told otherwise.
pub fn default_state_dir() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".muster")
}

/// Links need rights to be made here, and named pipes lie elsewhere.
pub fn refuse_links_and_pipes(_options: &mut OpenOptions) {}
