//! Runs the real supervisor with an agent that is a shell script.
//!
//! Never waits for a fixed time: a test reads a line, a datagram, a file or a process's exit, each
//! with a deadline that only a broken supervisor reaches. Dropping the harness asserts that no
//! process of the test is left.

#![expect(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub const DEADLINE: Duration = Duration::from_secs(20);

/// The start of every script: counts its runs in `$n` and prints the number.
const HEAD: &str = r#"#!/bin/sh
n=$(($(cat runs 2>/dev/null || echo 0) + 1)); echo $n > runs
echo "run $n pid $$ args $*"
"#;

pub struct Harness {
    dir: tempfile::TempDir,
    mark: String,
    command: Command,
}

impl Harness {
    /// `script` is the agent's body, in `sh`.
    pub fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, format!("{HEAD}{script}\n")).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();

        let mark = dir.path().display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster-supervisor"));
        command.arg("run");
        let mut harness = Self { dir, mark, command };
        harness.set("MUSTER_AGENT", &agent.display().to_string());
        harness.set("MUSTER_BACKOFF_MAX_MS", "20");
        harness
    }

    /// Runs the supervisor as process 1 of a new namespace.
    pub fn as_init(script: &str) -> Self {
        let namespace = ["--pid", "--fork", "--mount-proc", "--kill-child"];
        let permitted = Command::new("unshare").args(namespace).arg("true").output();
        assert!(
            permitted.is_ok_and(|output| output.status.success()),
            "this test makes a process namespace: run the tests as root"
        );
        let mut harness = Self::new(script);
        let mut command = Command::new("unshare");
        command.args(namespace).arg(env!("CARGO_BIN_EXE_muster-supervisor")).arg("run");
        harness.run_instead(command);
        harness
    }

    /// Runs another program with the same environment.
    pub fn run_instead(&mut self, mut command: Command) {
        for (name, value) in self.command.get_envs() {
            command.env(name, value.unwrap());
        }
        self.command = command;
    }

    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.command.env(name, value);
        self
    }

    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.command.args(args);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn start(&mut self) -> Running {
        let state_dir = self.path("state");
        let mut child = self
            .command
            .current_dir(self.dir.path())
            .env("MUSTER_STATE_DIR", &state_dir)
            .env("MUSTER_TEST_MARK", &self.mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let log = lines_of(child.stderr.take().unwrap());
        Running { child, lines, log, state_dir }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let left = || marked_processes(&self.mark);
        if std::thread::panicking() {
            left().into_iter().for_each(|pid| _ = kill(pid, Signal::SIGKILL));
            return;
        }
        // An agent that was signalled may still be exiting.
        let deadline = Instant::now() + DEADLINE;
        while !left().is_empty() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let left = left();
        left.iter().for_each(|pid| _ = kill(*pid, Signal::SIGKILL));
        assert!(left.is_empty(), "processes {left:?} are left over");
    }
}

/// A running supervisor.
pub struct Running {
    pub child: Child,
    lines: Receiver<String>,
    pub log: Receiver<String>,
    state_dir: PathBuf,
}

impl Running {
    /// The next line that the agent printed.
    pub fn line(&mut self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line from the agent")
    }

    /// Expects the first line of run `n`; returns the agent's pid.
    pub fn run(&mut self, n: usize) -> Pid {
        let line = self.line();
        let rest = line.strip_prefix(&format!("run {n} pid "));
        let rest = rest.unwrap_or_else(|| panic!("expected run {n}, got {line:?}"));
        one_process(rest.split(' ').next().unwrap())
    }

    /// All further lines, once every process that held the agent's output has ended.
    pub fn rest_of_lines(&mut self) -> Vec<String> {
        rest_of(&self.lines)
    }

    /// All further lines of the supervisor's log, once it has ended.
    pub fn rest_of_log(&mut self) -> String {
        rest_of(&self.log).join("\n")
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn ended(&mut self) -> ExitStatus {
        eventually("the supervisor ends", || self.child.try_wait().unwrap())
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.ended().code()
    }

    /// `supervisor.json`, once `wanted` is true for it.
    pub fn state(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = self.state_dir.join("supervisor.json");
        eventually("the state file says so", || {
            let text = fs::read_to_string(&path).ok()?;
            let value = serde_json::from_str(&text).expect("whole JSON at any moment");
            wanted(&value).then_some(value)
        })
    }
}

/// Polls until `look` returns a value, for at most [`DEADLINE`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::yield_now();
    }
}

/// Parses a process id. Zero and negative numbers would address groups, or all processes, in
/// `kill`.
pub fn one_process(text: &str) -> Pid {
    let number: i32 = text.parse().unwrap();
    assert!(number > 1, "{number} is not a process of a test");
    Pid::from_raw(number)
}

pub fn is_alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// The child processes that still exist.
pub fn children_of(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(one_process).collect()
}

fn marked_processes(mark: &str) -> Vec<Pid> {
    let mark = format!("MUSTER_TEST_MARK={mark}").into_bytes();
    let carries_mark = |path: &Path| {
        fs::read(path.join("environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark))
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| carries_mark(path))
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok().map(Pid::from_raw))
        .collect()
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn rest_of(lines: &Receiver<String>) -> Vec<String> {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => return rest,
            Err(RecvTimeoutError::Timeout) => panic!("never ended, after {rest:?}"),
        }
    }
}
