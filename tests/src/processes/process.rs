//! A child process of a test, with its log in a file. It never outlives the test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{eventually, eventually_blocking};

/// How much of a log is shown when a test fails.
const SHOWN_LOG_BYTES: usize = 6_000;

/// A running (or ended) program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    end_signal: Signal,
}

impl Process {
    /// Starts a program with only the given environment, a `PATH` and a `HOME`. Its output is
    /// appended to `<name>.log` in the folder.
    pub fn start<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: &[&str],
        environment: impl IntoIterator<Item = (K, V)>,
        folder: &Path,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().append(true).create(true).open(&log).expect("open the log");
        let err = out.try_clone().expect("share the log");
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", folder)
            .env("RUST_BACKTRACE", "1")
            .envs(environment)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start {}: {error}", program.display()));
        Self { name: name.to_owned(), child, log, end_signal: Signal::SIGTERM }
    }

    /// Ends it with this signal instead of TERM.
    pub fn ended_by(mut self, end_signal: Signal) -> Self {
        self.end_signal = end_signal;
        self
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has printed, over all starts with this name.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its exit status, if it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Sends a signal, if it is running.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal a child");
        }
    }

    /// Kills it with -9 and waits for its end.
    pub fn kill_9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("wait for a killed child");
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, async || self.status()).await
    }

    /// Asks it to end and waits; kills it if it does not.
    ///
    /// # Panics
    /// If it had to be killed.
    pub fn stop(&mut self) {
        self.signal(self.end_signal);
        let ended = eventually_blocking(Duration::from_secs(30), || self.status());
        if ended.is_none() {
            self.kill_9();
            assert!(
                std::thread::panicking(),
                "{} did not end within 30 s of being asked",
                self.name
            );
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill_9();
            eprintln!("--- {} said:\n{}", self.name, tail(&self.log()));
        } else {
            self.stop();
        }
    }
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(SHOWN_LOG_BYTES);
    let start = (start..text.len()).find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    &text[start..]
}
