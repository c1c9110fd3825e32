//! The command line and the environment, read once into one value.
//!
//! Knows no processes. Empty variables count as unset, as compose files leave them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use muster_protocol::release::Version;

/// Runs the Muster agent, and starts it again or updates it by its exit code.
#[derive(Debug, Parser)]
#[command(name = "muster-supervisor", version = muster_protocol::version::own(), about)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Action,
}

/// What the supervisor can do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run the agent until it stops on purpose (0) or can't work (99).
    Run(RunArgs),
    /// Say whether this host is on duty: exit 0 while its agent runs, connected or not, or is being
    /// updated. For health checks of containers.
    Health {
        /// The agent's state directory [default: /var/lib/muster, ~/.muster without root].
        #[arg(long, env = "MUSTER_STATE_DIR", value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Show that this program starts on this host. Asked by the version before it.
    #[command(hide = true)]
    SelfTest {
        /// What it will be started with.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Judge a downloaded release as an update would. Asked by deploy.sh before it installs one:
    /// prints the key that has signed it, and the floor that it brings.
    #[command(hide = true)]
    VerifyRelease(VerifyArgs),
}

/// The options of `verify-release`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Where it was downloaded to.
    #[arg(long)]
    pub folder: PathBuf,
    /// The version that is wanted, and no other.
    #[arg(long)]
    pub version: Version,
    /// The installation that it is for: its pinned key and its floor hold. There may be none yet.
    #[arg(long)]
    pub dir: PathBuf,
    /// The fingerprint of the key to trust, instead of the pinned one.
    #[arg(long)]
    pub release_key: Option<String>,
    /// Without a pinned key: judge everything but whose key it is.
    #[arg(long)]
    pub any_key: bool,
}

/// The options of `run`.
///
/// The hidden ones are knobs for tests, which can't wait for a minute of health; they are read from
/// the environment so that tests of whole installations can set them too.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Stay, doing nothing, after the agent has stopped for good, instead of exiting: for
    /// containers that would be started again. As process 1 this is always so.
    #[arg(long, env = "MUSTER_PARK", value_parser = clap::builder::FalseyValueParser::new())]
    pub park: bool,

    /// The programs beside this one are a container image's: they come into the folder of `--dir`,
    /// a volume, where that has none or older ones, and the supervisor there takes over. Set by the
    /// variable alone, since a supervisor before this one refuses options that it does not know.
    #[arg(long, env = "MUSTER_FROM_IMAGE", hide = true, value_parser = clap::builder::FalseyValueParser::new())]
    from_image: bool,

    /// Where versions are installed: `DIR/versions/current/bin/muster-agent` is preferred to the
    /// agent beside this binary.
    #[arg(long = "dir", env = "MUSTER_DIR", value_name = "DIR")]
    install_dir: Option<OsString>,

    /// The agent's state directory [default: /var/lib/muster, ~/.muster without root].
    #[arg(long, env = "MUSTER_STATE_DIR", value_name = "DIR")]
    state_dir: Option<OsString>,

    /// Where a log is kept, 3 files of 10 MiB, beside what goes to standard error [default: none].
    #[arg(long, env = "MUSTER_LOG_DIR", value_name = "DIR")]
    log_dir: Option<OsString>,

    /// Test knob: the agent's binary, wherever it lies.
    #[arg(long, env = "MUSTER_AGENT", hide = true)]
    agent: Option<OsString>,

    /// Test knob: a run of this length resets the backoff.
    #[arg(long, env = "MUSTER_HEALTHY_AFTER_MS", hide = true, default_value_t = 60_000)]
    healthy_after_ms: u64,

    /// Test knob: how long the agent may take to stop before it is killed.
    #[arg(long, env = "MUSTER_STOP_GRACE_MS", hide = true, default_value_t = 20_000)]
    stop_grace_ms: u64,

    /// Test knob: bounds every delay of the backoff; the default bounds rise from 2 s to 2 min.
    #[arg(long, env = "MUSTER_BACKOFF_MAX_MS", hide = true)]
    backoff_max_ms: Option<u64>,

    /// Test knob: how long a version may take to register.
    #[arg(long, env = "MUSTER_TRIAL_MS", hide = true, default_value_t = 600_000)]
    trial_ms: u64,

    /// Passed to the agent after `run`.
    #[arg(last = true, value_name = "AGENT ARGS")]
    agent_args: Vec<OsString>,
}

/// Everything that a run depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Stay after the agent has stopped for good.
    pub park: bool,
    /// This supervisor and the agent beside it came with a container's image.
    pub is_from_image: bool,
    /// Where versions are installed.
    pub install_dir: Option<PathBuf>,
    /// Where `supervisor.json` goes and `fatal_reason` comes from.
    pub state_dir: PathBuf,
    /// Where a log is kept.
    pub log_dir: Option<PathBuf>,
    /// Wins over every other place of the agent.
    pub agent: Option<PathBuf>,
    /// A run of this length resets the backoff.
    pub healthy_after: Duration,
    /// From the request to stop to the kill.
    pub stop_grace: Duration,
    /// Bounds every delay of the backoff.
    pub backoff_max: Option<Duration>,
    /// How long a version may take to register.
    pub trial_time: Duration,
    /// Passed to the agent after `run`.
    pub agent_args: Vec<OsString>,
}

impl Settings {
    /// `park_by_default` is true for process 1, `default_state_dir` the platform's choice.
    pub fn new(args: RunArgs, park_by_default: bool, default_state_dir: PathBuf) -> Self {
        let given =
            |path: Option<OsString>| path.filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            park: args.park || park_by_default,
            is_from_image: args.from_image,
            install_dir: given(args.install_dir),
            state_dir: given(args.state_dir).unwrap_or(default_state_dir),
            log_dir: given(args.log_dir),
            agent: given(args.agent),
            healthy_after: Duration::from_millis(args.healthy_after_ms),
            stop_grace: Duration::from_millis(args.stop_grace_ms),
            backoff_max: args.backoff_max_ms.map(Duration::from_millis),
            trial_time: Duration::from_millis(args.trial_ms),
            agent_args: args.agent_args,
        }
    }
}
