//! `muster-agent`: the agent, or, started by it, the shim of one execution.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use muster_agent::config::{self, Config, RunArgs, default_state_dir};
use muster_agent::releases::{self, fetch::ReleasePart};
use muster_agent::storage::layout::StateDir;
use muster_agent::subcommands;
use muster_agent::subcommands::deregister::DeregisterOutcome;
use muster_agent::subcommands::doctor::{self, DoctorArgs};
use muster_agent::subcommands::status::HostReport;
use muster_protocol::release::{NO_SPACE_EXIT, Version};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "muster-agent", version = muster_protocol::version::own(), about = "Muster's agent for one host")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Connect to the server and carry out what it may ask for.
    Run(Box<RunArgs>),
    /// Say how the agent of this host is: 0 connected, 3 running and not connected, 4 not running.
    Status {
        #[command(flatten)]
        state: StateDirArg,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// End every running execution of this host, with or without a running agent.
    EndExecutions {
        #[command(flatten)]
        state: StateDirArg,
        /// How long to wait until they are gone, in seconds.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86_400))]
        wait_s: u64,
    },
    /// Take this host out of the fleet: the server deletes its agent, which has to be stopped.
    /// Results are reported before; executions that still run are ended.
    Deregister(Box<RunArgs>),
    /// Say what stands between this host and its server, and what to do about it. Takes the
    /// options of `run`, changes nothing, and may be called while an agent runs or before any does.
    /// Exits with 0 if nothing failed, 1 otherwise, 2 if called wrongly.
    Doctor(Box<DoctorArgs>),
    /// Ask the agent that runs here to become another version, and wait for what comes of it: 0 if that
    /// runs, 1 otherwise. Takes the options of `run`; for a host that was installed by deploy.sh.
    RequestUpdate {
        /// The version [default: what the agent's group wants, else the newest release].
        #[arg(long)]
        version: Option<Version>,
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// Print the version.
    Version,
    /// Download a release for the supervisor, or deploy.sh, which judge it. Started by those, not by
    /// people. Prints its version.
    #[command(hide = true)]
    FetchRelease {
        /// The version [default: the newest].
        #[arg(long)]
        version: Option<Version>,
        /// Where to.
        #[arg(long)]
        into: PathBuf,
        /// What of it.
        #[arg(long, value_enum, default_value_t = ReleasePart::All)]
        part: ReleasePart,
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// Keep one execution. Started by the agent, not by people.
    #[command(hide = true)]
    Shim { execution: PathBuf },
}

/// Which agent is meant.
#[derive(Args)]
struct StateDirArg {
    /// Where it keeps its state [default: /var/lib/muster, ~/.muster without root].
    #[arg(long, env = "MUSTER_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

impl StateDirArg {
    fn path(self) -> anyhow::Result<PathBuf> {
        Ok(self.state_dir.map_or_else(default_state_dir, Ok)?)
    }
}

fn main() -> ExitCode {
    match Arguments::parse().mode {
        Mode::Run(args) => run(*args),
        Mode::Status { state, json } => exit_code_of(status(state, json)),
        Mode::EndExecutions { state, wait_s } => exit_code_of(end_executions(state, wait_s)),
        Mode::Deregister(args) => exit_code_of(deregister(*args)),
        Mode::Doctor(args) => run_doctor(*args),
        Mode::RequestUpdate { version, run } => exit_code_of(request_update(version, *run)),
        Mode::Version => {
            println!("muster-agent {}", muster_protocol::version::own());
            ExitCode::SUCCESS
        }
        Mode::FetchRelease { version, into, part, run } => {
            exit_code_of(fetch_release(version, part, &into, *run))
        }
        Mode::Shim { execution } => run_shim(execution),
    }
}

fn run(args: RunArgs) -> ExitCode {
    start_log("info");
    match Config::load(args) {
        Ok(config) => match serve(config) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
        // Nothing but a change of the configuration helps: the supervisor is told not to try again.
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(muster_protocol::ExitCode::Fatal.code() as u8)
        }
    }
}

fn serve(config: Config) -> anyhow::Result<u8> {
    let code = on_runtime(muster_agent::subcommands::run::run(config))??;
    Ok(code.code() as u8)
}

fn on_runtime<Work: Future>(work: Work) -> anyhow::Result<Work::Output> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(work);
    // A look-up of a name may hang in a thread; nothing waits for it.
    runtime.shutdown_background();
    Ok(outcome)
}

fn status(state: StateDirArg, json: bool) -> anyhow::Result<u8> {
    let report = HostReport::read(&state.path()?)?;
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    } else {
        print(&report.text());
    }
    Ok(report.state.exit_code())
}

fn end_executions(state: StateDirArg, wait_s: u64) -> anyhow::Result<u8> {
    let state = StateDir::at(&state.path()?);
    let outcome = subcommands::end_executions::end_executions(&state, Duration::from_secs(wait_s))?;
    print(&outcome.text());
    Ok(if outcome.left.is_empty() { 0 } else { 1 })
}

fn deregister(args: RunArgs) -> anyhow::Result<u8> {
    start_log("error");
    let outcome = match subcommands::deregister::enrolled(&config::state_dir(&args)?)? {
        // Whoever was never enrolled may have been configured never, too.
        None => DeregisterOutcome::NeverEnrolled,
        Some(_) => {
            let config = Config::load(args)?;
            on_runtime(Box::pin(subcommands::deregister::deregister(&config)))??
        }
    };
    print(&outcome.text());
    Ok(0)
}

fn fetch_release(
    version: Option<Version>,
    part: ReleasePart,
    into: &Path,
    args: RunArgs,
) -> anyhow::Result<u8> {
    start_log("info");
    let config = Config::load(args)?;
    let fetching = async {
        let version = match version {
            Some(version) => version,
            None => releases::client::newest(&config).await?,
        };
        let fetched = releases::fetch::fetch(&config, &version, part, into).await;
        anyhow::Ok((version, fetched))
    };
    let (version, fetched) = on_runtime(Box::pin(fetching))??;
    if let Err(error) = &fetched
        && error.code() == "no_space"
    {
        tracing::error!(error = error as &dyn std::error::Error, "the download does not fit");
        return Ok(NO_SPACE_EXIT);
    }
    fetched?;
    print(&format!("{version}\n"));
    Ok(0)
}

fn request_update(version: Option<Version>, args: RunArgs) -> anyhow::Result<u8> {
    start_log("error");
    let config = Config::load(args)?;
    let report = |text: &str| print(&format!("{text}\n"));
    let update = Box::pin(subcommands::request_update::request_update(&config, version, report));
    print(&format!("{}\n", on_runtime(update)??));
    Ok(0)
}

/// Prints to whoever still reads.
fn print(text: &str) {
    use std::io::Write as _;
    // A reader that has gone has seen enough; the exit code says the rest.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The end of what a person asked for at a terminal.
fn exit_code_of(outcome: anyhow::Result<u8>) -> ExitCode {
    outcome.map_or_else(
        |error| {
            eprintln!("muster-agent: {error:#}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn run_doctor(args: DoctorArgs) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "failed to {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let format = args.format();
    let findings = runtime.block_on(doctor::run_checks(args.run));
    runtime.shutdown_background();
    // Whoever stopped reading does not want to know.
    let _ = write!(std::io::stdout(), "{}", doctor::render(&findings, format));
    match doctor::root_cause(&findings) {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

/// One thread for everything, and what every link needs.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS provider is installed already");
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 * 1024)
        .build()
        .context("start the runtime")
}

fn run_shim(execution: PathBuf) -> ExitCode {
    match muster_agent::executions::shim::run(execution) {
        Ok(()) => ExitCode::SUCCESS,
        // It stands in the execution's log.
        Err(_) => ExitCode::FAILURE,
    }
}

/// `level`: unless MUSTER_LOG says otherwise.
fn start_log(level: &str) {
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        // It would be told on standard error, by a macro that panics where that can't be written.
        .log_internal_errors(false)
        .init();
}
