//! `muster-agent doctor` as an operator or an installer runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use serde_json::Value;

use crate::clients::cli::{ProgramOutput, ended};
use crate::processes::binaries::binary;
use crate::processes::test_dir::TestDir;

/// A call that is being prepared.
#[derive(Debug, Clone)]
pub struct Doctor {
    environment: Vec<(String, String)>,
    folder: PathBuf,
    mounts: Option<String>,
}

impl Doctor {
    /// For an agent with this key and server, whose state directory does not exist yet.
    pub fn new(test_dir: &TestDir, server_url: &str, key: &str) -> Self {
        let doctor = Self { environment: vec![], folder: test_dir.path().to_owned(), mounts: None };
        let state = test_dir.path().join("state-of-nobody");
        doctor.with("MUSTER_SERVER_URL", server_url).with("MUSTER_API_KEY", key).with_state(&state)
    }

    /// Uses the state directory of an agent.
    pub fn with_state(self, state_dir: &Path) -> Self {
        self.with("MUSTER_STATE_DIR", state_dir.display())
    }

    /// Adds or replaces a variable.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Runs it in its own mount namespace, prepared by these shell commands.
    pub fn with_mounts(mut self, commands: &str) -> Self {
        self.mounts = Some(commands.to_owned());
        self
    }

    /// Runs it to its end.
    pub async fn say(&self, args: &[&str]) -> ProgramOutput {
        let child = self
            .command()
            .arg("doctor")
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", &self.folder)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the doctor");
        ended(child).await
    }

    /// Its one line of output, after it found a failure.
    pub async fn brief(&self) -> String {
        let said = self.say(&["--brief"]).await.expect(1);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    }

    fn command(&self) -> Command {
        let program = binary("muster-agent");
        let Some(mounts) = &self.mounts else { return Command::new(program) };
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = format!("set -e\n{mounts}\nexec \"$0\" \"$@\"");
        command.args(["--mount", "--", "sh", "-c", &script]).arg(program);
        command
    }

    /// Its findings, after it exited with this code.
    pub async fn findings(&self, code: i32) -> Vec<Value> {
        let text = self.say(&["--json"]).await.expect(code);
        serde_json::from_str(&text).expect("an array of findings")
    }
}

/// The finding of one check.
///
/// # Panics
/// If there is none, or more than one.
#[track_caller]
pub fn finding<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    let mut of_check = findings.iter().filter(|finding| finding["check"] == check);
    let found = of_check.next().unwrap_or_else(|| panic!("no finding of {check}: {findings:?}"));
    assert!(of_check.next().is_none(), "two findings of {check}: {findings:?}");
    found
}
