//! The agent beside the server: the supervisor as a child process that ends with the server.
//!
//! Knows processes and files, not keys or tenants. The supervisor runs the agent, and restarts it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use muster_protocol::ExitCode;
use muster_protocol::program::backoff::Delays;
use muster_protocol::release::Program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long the supervisor may take to stop the agent. It kills the agent after 20 s.
const LOCAL_AGENT_STOP: Duration = Duration::from_secs(25);
/// A run of this length resets the delays between restarts.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The policy of a new local agent. Its owner may change the file.
const FIRST_POLICY: &str = "{\"allow\": \"library\"}\n";

/// The variables of the server that its agent gets too. All others may hold secrets of the server.
const PASSED_ON: [&str; 11] = [
    "HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "SHELL",
];
/// … and those that say where packages of scripts come from.
const PASSED_ON_PREFIXES: [&str; 3] = ["PIP_", "UV_", "NPM_CONFIG_"];
const PROXIES: [&str; 4] = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];

/// Why the agent beside the server can't run.
#[derive(Debug, thiserror::Error)]
pub enum LocalAgentError {
    #[error(
        "{} is missing; set `local_agent_programs` to the folder with muster-supervisor and muster-agent", path.display()
    )]
    NoProgram { path: PathBuf },
    #[error("failed to prepare the state directory of the local agent, {}", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to start the thread of the local agent")]
    Thread(#[source] io::Error),
}

/// Where the local agent and its programs are.
#[derive(Debug, Clone)]
pub struct LocalAgentFiles {
    state_dir: PathBuf,
    supervisor: PathBuf,
}

/// How the local agent reaches the server.
#[derive(Debug, Clone)]
pub struct LocalConnection {
    pub url: String,
    /// The authority that issued the server's certificate, unless the machine trusts it.
    pub ca_file: Option<PathBuf>,
    /// `text` or `json`.
    pub log_format: &'static str,
}

impl LocalAgentFiles {
    /// Finds the programs in `programs`, by default beside the server's own program, and makes the state
    /// directory with a policy that allows the library. An existing policy is not changed.
    ///
    /// # Errors
    /// [`LocalAgentError`] names what is missing.
    pub fn prepare(state_dir: PathBuf, programs: Option<&Path>) -> Result<Self, LocalAgentError> {
        let own = std::env::current_exe().ok();
        let beside = own.as_deref().and_then(Path::parent);
        let folder = programs.or(beside).unwrap_or(Path::new("."));
        for program in Program::ALL {
            let path = folder.join(program.file_name());
            if !path.is_file() {
                return Err(LocalAgentError::NoProgram { path });
            }
        }
        let supervisor = folder.join(Program::Supervisor.file_name());
        let failed = |source| LocalAgentError::State { path: state_dir.clone(), source };
        // The agent makes everything else in it.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state_dir)
            .map_err(failed)?;
        let policy = state_dir.join("policy.json");
        if !policy.try_exists().map_err(failed)? {
            // A policy that is cut off would be refused by the agent.
            let draft = state_dir.join("policy.json.draft");
            std::fs::write(&draft, FIRST_POLICY).map_err(failed)?;
            std::fs::rename(&draft, &policy).map_err(failed)?;
        }
        // The supervisor is started with the state directory as its working directory.
        let state_dir = std::path::absolute(&state_dir).map_err(failed)?;
        let supervisor = std::path::absolute(&supervisor).map_err(failed)?;
        Ok(Self { state_dir, supervisor })
    }

    /// The file with the agent key, readable by the server's user alone.
    pub fn key_file(&self) -> PathBuf {
        self.state_dir.join("agent_key")
    }

    /// The command that starts the supervisor. The key is neither in its arguments nor in its environment.
    fn command(&self, connection: &LocalConnection) -> Command {
        let mut command = Command::new(&self.supervisor);
        command.arg("run").env_clear().envs(passed_on(std::env::vars_os()));
        command
            .env("MUSTER_STATE_DIR", &self.state_dir)
            .env("MUSTER_API_KEY_FILE", self.key_file())
            .env("MUSTER_SERVER_URL", &connection.url)
            // The server may listen on one address of this machine alone, which is still this machine.
            .env("MUSTER_INSECURE", "1")
            .env("MUSTER_LOG_FORMAT", connection.log_format)
            .env("MUSTER_PARENT_PID", std::process::id().to_string());
        if let Some(file) = &connection.ca_file {
            command.env("MUSTER_CA_FILE", file);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir(&self.state_dir);
        command
    }
}

/// The agent beside the server, while it is wanted.
#[derive(Debug)]
pub struct LocalAgent {
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl LocalAgent {
    /// Starts the supervisor, and again when it ends unexpectedly.
    ///
    /// # Errors
    /// [`LocalAgentError::Thread`]
    pub fn start(
        files: LocalAgentFiles,
        connection: LocalConnection,
    ) -> Result<Self, LocalAgentError> {
        let (stop, stopped) = watch::channel(false);
        // The kernel ends the supervisor when the thread that started it ends, so this thread lives as long
        // as the server and does nothing else.
        let thread = std::thread::Builder::new()
            .name("local-agent".into())
            .spawn(move || keep_running(&files, &connection, stopped))
            .map_err(LocalAgentError::Thread)?;
        Ok(Self { stop, thread })
    }

    /// Asks supervisor and agent to stop. Returns at once.
    pub fn request_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops supervisor and agent, and waits for their end. Blocks.
    pub fn stop(self) {
        self.request_stop();
        if self.thread.join().is_err() {
            tracing::warn!("the thread of the local agent failed");
        }
    }
}

fn keep_running(
    files: &LocalAgentFiles,
    connection: &LocalConnection,
    stopped: watch::Receiver<bool>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map(|runtime| runtime.block_on(supervise(files, connection, stopped)));
    if let Ok(Err(error)) | Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, "the local agent does not run");
    }
}

async fn supervise(
    files: &LocalAgentFiles,
    connection: &LocalConnection,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    let mut delays = Delays::for_restart();
    while !*stopped.borrow() {
        let started_at = Instant::now();
        match files.command(connection).spawn() {
            Ok(mut child) => {
                tracing::info!(state_dir = %files.state_dir.display(), "started the local agent");
                let ended = tokio::select! {
                    ended = end_of(&mut child, &mut children) => ended?,
                    () = requested(&mut stopped) => return stop(child, &mut children).await,
                };
                if let Some(reason) = reason_to_stay_stopped(ended) {
                    tracing::warn!(
                        reason,
                        "the local agent has stopped; restart the server to start it"
                    );
                    return Ok(());
                }
                tracing::warn!(%ended, "the supervisor of the local agent ended; restarting it");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "failed to start the supervisor of the local agent; retrying"
                );
            }
        }
        if started_at.elapsed() >= HEALTHY_AFTER {
            delays.reset();
        }
        tokio::select! {
            () = tokio::time::sleep(delays.next_delay()) => {}
            () = requested(&mut stopped) => {}
        }
    }
    Ok(())
}

async fn requested(stopped: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped it, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn end_of(
    child: &mut Child,
    children: &mut tokio::signal::unix::Signal,
) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        children.recv().await;
    }
}

async fn stop(mut child: Child, children: &mut tokio::signal::unix::Signal) -> io::Result<()> {
    // Not reaped yet, so the number can't belong to another process.
    let id = i32::try_from(child.id()).ok().map(Pid::from_raw);
    if let Some(id) = id {
        let _ = kill(id, Signal::SIGTERM);
    }
    if tokio::time::timeout(LOCAL_AGENT_STOP, end_of(&mut child, children)).await.is_err() {
        tracing::warn!("the supervisor of the local agent did not stop in time: killing it");
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Why a supervisor that ended by itself is not started again.
fn reason_to_stay_stopped(ended: ExitStatus) -> Option<&'static str> {
    match ended.code().and_then(ExitCode::from_code)? {
        ExitCode::Stop => Some("it was asked to"),
        ExitCode::Fatal => Some(
            "it can't work as it is configured; its log has the reason. If its agent key was deleted, delete the \
             file agent_key in its state directory",
        ),
        ExitCode::Restart | ExitCode::Update | ExitCode::Redeploy => None,
    }
}

fn passed_on(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    all.filter(|(name, _)| name.to_str().is_some_and(is_passed_on) || is_locale(name))
}

fn is_passed_on(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    PASSED_ON.contains(&name)
        || PROXIES.contains(&upper.as_str())
        || PASSED_ON_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

fn is_locale(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("LC_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_server_are_not_passed_on() {
        let names = [
            "MUSTER_MASTER_KEY",
            "MUSTER_BOOTSTRAP_KEY",
            "MUSTER_DATABASE_URL",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
        ];
        let all = names.into_iter().chain(["PATH", "LC_ALL", "https_proxy", "npm_config_registry"]);
        let all = all.map(|name| (OsString::from(name), OsString::from("value")));
        let kept: Vec<_> = passed_on(all).map(|(name, _)| name).collect();
        assert_eq!(kept, ["PATH", "LC_ALL", "https_proxy", "npm_config_registry"]);
    }

    #[test]
    fn a_policy_that_is_there_is_kept_and_missing_programs_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (programs, state) = (folder.path().join("programs"), folder.path().join("state"));
        std::fs::create_dir(&programs).expect("made");
        let prepare = || LocalAgentFiles::prepare(state.clone(), Some(&programs));
        let error = prepare().expect_err("no programs").to_string();
        assert!(error.contains("muster-"), "{error}");
        assert!(!state.exists(), "nothing was made");
        for program in Program::ALL {
            std::fs::write(programs.join(program.file_name()), "").expect("written");
        }
        prepare().expect("prepared");
        let policy = || std::fs::read_to_string(state.join("policy.json")).expect("read");
        assert_eq!(policy(), FIRST_POLICY);
        std::fs::write(state.join("policy.json"), "{}").expect("written");
        prepare().expect("prepared");
        assert_eq!(policy(), "{}");
    }
}
