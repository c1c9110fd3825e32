//! The `muster` command as a person runs it, with a home directory for the test.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::processes::binaries::binary;
use crate::processes::test_dir::TestDir;

/// A user of `muster`.
#[derive(Debug, Clone)]
pub struct Cli {
    home: PathBuf,
    environment: Vec<(String, String)>,
}

/// The result of a program.
#[derive(Debug)]
pub struct ProgramOutput {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl ProgramOutput {
    /// Standard output, if the exit code is as expected.
    ///
    /// # Panics
    /// On any other exit code; the message shows the output.
    #[track_caller]
    pub fn expect(&self, code: i32) -> String {
        let text = String::from_utf8_lossy(&self.stdout).into_owned();
        assert_eq!(self.code, Some(code), "{text}\n{}", self.stderr);
        text
    }

    /// Standard output as JSON, if the program succeeded.
    ///
    /// # Panics
    /// If it failed, or printed anything else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.expect(0)).expect("one JSON document")
    }
}

impl Cli {
    /// A user who has not logged in.
    pub fn new(test_dir: &TestDir) -> Self {
        Self { home: test_dir.folder("home"), environment: Vec::new() }
    }

    /// Adds a variable.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// The user's home directory.
    pub fn home(&self) -> &PathBuf {
        &self.home
    }

    /// Runs `muster` to its end, without standard input.
    pub async fn run(&self, args: &[&str]) -> ProgramOutput {
        ended(self.start(args)).await
    }

    /// [`Cli::run`] with data on standard input.
    pub async fn run_with_input(&self, args: &[&str], input: &str) -> ProgramOutput {
        let mut command = Command::new(binary("muster"));
        command.args(args).stdin(Stdio::piped());
        let mut child = self.spawn(command);
        // The program may not read it.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        ended(child).await
    }

    /// Runs `muster` on a terminal. Standard output is what the terminal receives.
    pub async fn run_on_a_terminal(&self, args: &[&str]) -> ProgramOutput {
        self.run_on_a_terminal_of(200, args).await
    }

    /// [`Cli::run_on_a_terminal`] with this number of columns.
    pub async fn run_on_a_terminal_of(&self, columns: u16, args: &[&str]) -> ProgramOutput {
        const TERMINAL: &str = "import os, pty, sys\n\
            sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        let size = format!("stty rows 24 cols {columns}; exec \"$@\"");
        let program = binary("muster");
        let mut command = Command::new("python3");
        command.args(["-c", TERMINAL, "sh", "-c", &size, "sh"]).arg(program).args(args);
        command.stdin(Stdio::piped());
        ended(self.spawn(command)).await
    }

    /// [`Cli::run`] with a standard output whose reader has closed it.
    pub async fn run_unread(&self, args: &[&str]) -> ProgramOutput {
        let mut command = Command::new(binary("muster"));
        command.args(args).env_clear().env("HOME", &self.home);
        unread(command).await
    }

    /// Starts `muster` and does not wait for it.
    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new(binary("muster"));
        command.args(args).stdin(Stdio::null());
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Child {
        command
            .env_clear()
            .env("HOME", &self.home)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(&self.home)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start muster")
    }
}

/// Waits for the end of a program and returns its output.
pub async fn ended(child: Child) -> ProgramOutput {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = waiting.await.expect("wait").expect("collect what it said");
    ProgramOutput {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program whose standard output has no reader.
pub async fn unread(mut command: Command) -> ProgramOutput {
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    drop(reader);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let child = command.spawn().expect("start the program");
    // The command holds the pipe too.
    drop(command);
    ended(child).await
}
