//! An agent under test, alone or under its supervisor, with its state in the test's directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::agents::scripts::{self, Script};
use crate::clients::cli::{ProgramOutput, ended};
use crate::processes::binaries::binary;
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::wait::eventually;

/// Options of an agent that differ from the defaults of the harness.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    /// The name of its folder and its log. It must be unique within a test.
    pub name: String,
    /// Runs it under `muster-supervisor`.
    pub supervised: bool,
    /// The scripts that its manifest allows.
    pub scripts: Vec<Script>,
    /// Its state directory. Default: a folder of the test's directory.
    pub state_dir: Option<PathBuf>,
    /// The program folder that its supervisor runs from, as `deploy.sh` installs it.
    pub installed: Option<PathBuf>,
    /// The folder of its programs, if they are not the programs under test.
    pub programs: Option<PathBuf>,
    /// `MUSTER_…` variables in addition to those that the harness sets.
    pub environment: Vec<(String, String)>,
    /// Shell commands that run first, in a mount namespace for the agent: a small disk, another
    /// machine id.
    pub mounts: Option<String>,
}

impl AgentOptions {
    /// An agent without a supervisor, named `agent`, that allows these scripts.
    pub fn with_scripts(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self { scripts: scripts.into_iter().collect(), ..Self::named("agent") }
    }

    /// An agent without a supervisor and without scripts.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Runs it under its supervisor.
    pub fn supervised(mut self) -> Self {
        self.supervised = true;
        self
    }

    /// Under a supervisor that runs from this program folder, and can install other versions there.
    pub fn installed(mut self, program_folder: PathBuf) -> Self {
        self.environment
            .push(("MUSTER_DIR".into(), program_folder.to_str().expect("plain text").into()));
        self.installed = Some(program_folder);
        self
    }

    /// Uses the programs in this folder.
    pub fn from_folder(mut self, programs: &Path) -> Self {
        self.programs = Some(programs.to_owned());
        self
    }

    /// Runs it in its own mount namespace, prepared by these shell commands.
    pub fn with_mounts(mut self, commands: &str) -> Self {
        self.mounts = Some(commands.to_owned());
        self
    }

    /// Adds a variable.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }
}

/// An agent that can be stopped, killed and started again with the same state.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    options: AgentOptions,
    environment: Vec<(String, String)>,
    state_dir: PathBuf,
    test_dir: TestDir,
}

impl Agent {
    /// Starts an agent that connects to `server_url` with `key`.
    pub fn start(test_dir: &TestDir, server_url: &str, key: &str, options: AgentOptions) -> Self {
        let state_dir = options.state_dir.clone().unwrap_or_else(|| test_dir.folder(&options.name));
        if !options.scripts.is_empty() {
            scripts::install(&state_dir, &options.scripts);
        }
        let own = [
            ("MUSTER_SERVER_URL", server_url.to_owned()),
            ("MUSTER_API_KEY", key.to_owned()),
            ("MUSTER_STATE_DIR", state_dir.to_str().expect("plain text").to_owned()),
            ("MUSTER_LOG", "info".to_owned()),
        ];
        let mut environment: Vec<_> = own.map(|(name, value)| (name.to_owned(), value)).into();
        environment.extend(options.environment.iter().cloned());
        let mut agent =
            Self { process: None, options, environment, state_dir, test_dir: test_dir.clone() };
        agent.resume();
        agent
    }

    /// Restarts it with the same state.
    pub fn resume(&mut self) {
        let supervised = self.options.supervised;
        let name = if supervised { "muster-supervisor" } else { "muster-agent" };
        let program = match (&self.options.installed, &self.options.programs) {
            (Some(folder), _) => folder.join("versions/current/bin/muster-supervisor"),
            (None, Some(folder)) => folder.join(name),
            (None, None) => binary(name),
        };
        let (name, environment) = (&self.options.name, self.environment.clone());
        let start = |program: &Path, args: &[&str]| {
            Process::start(name, program, args, environment, self.test_dir.path())
        };
        let process = match &self.options.mounts {
            None => start(&program, &["run"]),
            Some(commands) => {
                let script = format!("set -e\n{commands}\nexec \"$0\" run");
                let program = program.to_str().expect("plain text");
                let own = ["--map-root-user"].into_iter().filter(|_| !geteuid().is_root());
                let rest = ["--mount", "--", "sh", "-c", &script, program];
                start(Path::new("unshare"), &own.chain(rest).collect::<Vec<_>>())
            }
        };
        self.process = Some(process);
    }

    /// Sets or removes a variable for its next start.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Kills every process of this host with -9, as a power cut does.
    pub fn cut_power(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill_9();
        }
        for process in self.test_dir.processes(&self.state_dir, "") {
            // It may have ended by itself in between.
            let _ = kill(Pid::from_raw(process.id), Signal::SIGKILL);
        }
    }

    /// Its process, or the process of its supervisor.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent runs")
    }

    /// Kills the process that was started (the agent or the supervisor) with -9.
    pub fn kill_9(&mut self) {
        self.process().kill_9();
        self.process = None;
    }

    /// Stops it as an operator would.
    pub fn stop(&mut self) {
        self.process().stop();
        self.process = None;
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        let file = self.test_dir.path().join(format!("{}.log", self.options.name));
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// Replaces its scripts while it runs.
    pub fn allow(&self, scripts: &[Script]) {
        scripts::install(&self.state_dir, scripts);
    }

    /// Replaces its manifest by any text.
    pub fn write_manifest(&self, text: &str) {
        scripts::write_manifest(&self.state_dir, text);
    }

    /// Replaces its policy in one step.
    pub fn write_policy(&self, text: &str) {
        scripts::write_policy(&self.state_dir, text);
    }

    /// The agent's processes under its supervisor: one, or none during a restart.
    pub fn agent_ids(&self) -> Vec<i32> {
        self.ids("muster-agent run")
    }

    /// The shims of its executions.
    pub fn shim_ids(&self) -> Vec<i32> {
        self.ids("muster-agent shim ")
    }

    /// Kills the agent under its supervisor with -9.
    pub async fn kill_9_beneath_the_supervisor(&self) {
        let ids = eventually("the supervised agent runs", async || {
            Some(self.agent_ids()).filter(|ids| !ids.is_empty())
        })
        .await;
        kill_9(&ids);
    }

    /// Kills every shim with -9.
    pub async fn kill_9_shims(&self) {
        let ids =
            eventually("a shim runs", async || Some(self.shim_ids()).filter(|ids| !ids.is_empty()))
                .await;
        kill_9(&ids);
    }

    fn ids(&self, word: &str) -> Vec<i32> {
        let found = self.test_dir.processes(&self.state_dir, word);
        found.into_iter().map(|process| process.id).collect()
    }
}

/// Runs the agent's program to its end, as the owner of a host with this state directory does.
pub async fn agent_program(
    state: &Path,
    args: &[&str],
    environment: &[(&str, &str)],
) -> ProgramOutput {
    let child = Command::new(binary("muster-agent"))
        .args(args)
        .env_clear()
        .env("MUSTER_STATE_DIR", state)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    ended(child.expect("start muster-agent")).await
}

fn kill_9(ids: &[i32]) {
    for id in ids {
        kill(Pid::from_raw(*id), Signal::SIGKILL).expect("kill a process of the test");
    }
}
