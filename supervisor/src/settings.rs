//! The command line and the environment, read once into one value.
//!
//! Empty variables count as unset, because compose files set them empty.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use muster_protocol::program::log_format::LogFormat;
use muster_protocol::release::Version;

/// Runs the Muster agent, and restarts or updates it by its exit code
#[derive(Debug, Parser)]
#[command(name = "muster-supervisor", version = muster_protocol::program::version::own(), about)]
pub struct CommandLine {
    /// The action.
    #[command(subcommand)]
    pub command: Action,
}

/// The supervisor's actions.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run the agent until it stops on request (0) or can't work as configured (99)
    Run(RunArgs),
    /// Check the health of this host: exit 0 while its agent runs, connected or not, or is being
    /// updated. For container health checks
    Health {
        /// The agent's state directory [default: /var/lib/muster, ~/.muster without root]
        #[arg(long, env = "MUSTER_STATE_DIR", value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Test that this program starts on this host. The previous version runs this before a trial.
    #[command(hide = true)]
    SelfTest {
        /// The arguments that it will be started with.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Verify a downloaded release like an update does, and print the key that signed it and its
    /// floor. deploy.sh runs this before it installs a release.
    #[command(hide = true)]
    VerifyRelease(VerifyArgs),
}

/// The options of `verify-release`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The folder of the download.
    #[arg(long)]
    pub folder: PathBuf,
    /// The required version.
    #[arg(long)]
    pub version: Version,
    /// The program folder of the installation, whose pinned key and floor apply. It may not exist
    /// yet.
    #[arg(long)]
    pub dir: PathBuf,
    /// The fingerprint of the key to trust instead of the pinned one.
    #[arg(long)]
    pub release_key: Option<String>,
    /// Without a pinned key: accept any key.
    #[arg(long)]
    pub any_key: bool,
    /// The lowest version to accept, if it is higher than the installation's floor.
    #[arg(long)]
    pub min_version: Option<Version>,
}

/// The options of `run`.
///
/// The hidden options are for tests, which can't wait for a minute of health. They are read from
/// the environment so that tests of whole installations can set them too.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// After the agent has stopped for good, wait for a stop signal instead of exiting. For
    /// containers that would be restarted. Always on as process 1
    #[arg(long, env = "MUSTER_PARK", value_parser = clap::builder::FalseyValueParser::new())]
    pub park: bool,

    /// The programs beside this one belong to a container image: they are installed in the folder
    /// of `--dir`, a volume, if that has no version or an older one, and the volume's supervisor
    /// takes over. Set by the variable only, because an older supervisor rejects options that it
    /// does not know.
    #[arg(long, env = "MUSTER_FROM_IMAGE", hide = true, value_parser = clap::builder::FalseyValueParser::new())]
    from_image: bool,

    /// The folder with the installed versions. `DIR/versions/current/bin/muster-agent` is preferred
    /// to the agent beside this program
    #[arg(long = "dir", env = "MUSTER_DIR", value_name = "DIR")]
    install_dir: Option<OsString>,

    /// The agent's state directory [default: /var/lib/muster, ~/.muster without root]
    #[arg(long, env = "MUSTER_STATE_DIR", value_name = "DIR")]
    state_dir: Option<OsString>,

    /// Folder for a log of 3 files of 10 MiB, in addition to standard error [default: none]
    #[arg(long, env = "MUSTER_LOG_DIR", value_name = "DIR")]
    log_dir: Option<OsString>,

    /// Format of log lines: `text`, or `json` with one object for each line. The variable sets the format of
    /// the agent as well [default: text]
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Stop when this process ends, which must be the parent. Set by a server with `--local-agent`.
    #[arg(long, env = "MUSTER_PARENT_PID", hide = true)]
    parent_pid: Option<u32>,

    /// For tests: the path of the agent's program.
    #[arg(long, env = "MUSTER_AGENT", hide = true)]
    agent: Option<OsString>,

    /// For tests: a run of this length resets the backoff.
    #[arg(long, env = "MUSTER_HEALTHY_AFTER_MS", hide = true, default_value_t = 60_000)]
    healthy_after_ms: u64,

    /// For tests: how long the agent may take to stop before it is killed.
    #[arg(long, env = "MUSTER_STOP_GRACE_MS", hide = true, default_value_t = 20_000)]
    stop_grace_ms: u64,

    /// For tests: the longest delay of the backoff. By default the bound rises from 2 s to 2 min.
    #[arg(long, env = "MUSTER_BACKOFF_MAX_MS", hide = true)]
    backoff_max_ms: Option<u64>,

    /// For tests: how long a version may take to register.
    #[arg(long, env = "MUSTER_TRIAL_MS", hide = true, default_value_t = 600_000)]
    trial_ms: u64,

    /// Arguments for the agent, passed after `run`
    #[arg(last = true, value_name = "AGENT ARGS")]
    agent_args: Vec<OsString>,
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Wait for a stop signal after the agent has stopped for good.
    pub park: bool,
    /// This supervisor and the agent beside it belong to a container image.
    pub is_from_image: bool,
    /// The process to end with.
    pub parent_pid: Option<u32>,
    /// The folder with the installed versions.
    pub install_dir: Option<PathBuf>,
    /// The folder of `supervisor.json` and `fatal_reason`.
    pub state_dir: PathBuf,
    /// The folder of the log.
    pub log_dir: Option<PathBuf>,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// Takes precedence over every other path of the agent.
    pub agent: Option<PathBuf>,
    /// A run of this length resets the backoff.
    pub healthy_after: Duration,
    /// Time between the stop signal and the kill.
    pub stop_grace: Duration,
    /// The longest delay of the backoff.
    pub backoff_max: Option<Duration>,
    /// How long a version may take to register.
    pub trial_time: Duration,
    /// Passed to the agent after `run`.
    pub agent_args: Vec<OsString>,
}

impl Settings {
    /// `park_by_default` is true for process 1; `default_state_dir` depends on the platform.
    pub fn new(args: RunArgs, park_by_default: bool, default_state_dir: PathBuf) -> Self {
        let given =
            |path: Option<OsString>| path.filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            park: args.park || park_by_default,
            is_from_image: args.from_image,
            parent_pid: args.parent_pid,
            install_dir: given(args.install_dir),
            state_dir: given(args.state_dir).unwrap_or(default_state_dir),
            log_dir: given(args.log_dir),
            log_format: args.log_format.unwrap_or_default(),
            agent: given(args.agent),
            healthy_after: Duration::from_millis(args.healthy_after_ms),
            stop_grace: Duration::from_millis(args.stop_grace_ms),
            backoff_max: args.backoff_max_ms.map(Duration::from_millis),
            trial_time: Duration::from_millis(args.trial_ms),
            agent_args: args.agent_args,
        }
    }
}
