//! `muster-agent`: the agent, or, when the agent starts it, the shim of one execution.

// They panic if the reader of the pipe is gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use muster_agent::config::{self, Config, RunArgs, default_state_dir};
use muster_agent::executions::file_transfers::{self, FileWork};
use muster_agent::log_output::LogOutput;
use muster_agent::releases::{self, fetch::ReleasePart};
use muster_agent::storage::layout::StateDir;
use muster_agent::subcommands;
use muster_agent::subcommands::deregister::DeregisterOutcome;
use muster_agent::subcommands::doctor::{self, DoctorArgs};
use muster_agent::subcommands::explain::Explanation;
use muster_agent::subcommands::status::HostReport;
use muster_protocol::error_chain;
use muster_protocol::program::log_format::LogFormat;
use muster_protocol::release::{NO_SPACE_EXIT, Version};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "muster-agent", version = muster_protocol::program::version::own(), about = "The Muster agent of this host")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Connect to the server and run the commands that it sends.
    Run(Box<RunArgs>),
    /// Show the state of this host's agent. Exit status: 0 connected, 3 running but not connected,
    /// 4 not running.
    Status {
        #[command(flatten)]
        state: StateDirArg,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Explain what the server can do on this host, what it asked for lately, and what was refused.
    /// Reads files only: works without a running agent and without a network.
    Explain {
        #[command(flatten)]
        state: StateDirArg,
        /// Folder with the installed programs [default: the one that this program is in].
        #[arg(long, env = "MUSTER_DIR")]
        dir: Option<PathBuf>,
        /// How many requests to show.
        #[arg(long, default_value_t = 20)]
        requests: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the facts that the agent reports about this host. Runs the programs in facts.d of the state
    /// directory.
    Facts {
        #[command(flatten)]
        state: StateDirArg,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// End when standard input is closed.
        #[arg(long, hide = true)]
        watch_input: bool,
    },
    /// End all running executions on this host, whether or not an agent is running.
    EndExecutions {
        #[command(flatten)]
        state: StateDirArg,
        /// How long to wait for the executions to end, in seconds.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86_400))]
        wait_s: u64,
    },
    /// Delete the results of former identities of this host that no server acknowledged. A server that
    /// issues one identity after the other makes them; with too many of them the agent takes no further
    /// identity. Results of the present identity stay.
    DiscardResults {
        #[command(flatten)]
        state: StateDirArg,
    },
    /// Remove this host from the fleet. The server deletes its agent. Stop the agent first. Results
    /// are reported before; running executions are ended.
    Deregister(Box<RunArgs>),
    /// Check the connection to the server and explain how to fix problems. Accepts the options of
    /// `run` and changes nothing. Works with or without a running agent. Exit status: 0 if no check
    /// failed, 1 otherwise, 2 for wrong usage.
    Doctor(Box<DoctorArgs>),
    /// Ask the running agent to install another version, and wait for the result. Exit status: 0 if
    /// that version runs, 1 otherwise. Accepts the options of `run`. Requires an installation by
    /// deploy.sh.
    RequestUpdate {
        /// The version [default: the desired version of the agent's group, otherwise the newest
        /// release].
        #[arg(long)]
        version: Option<Version>,
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// Print the version.
    Version,
    /// Download a release for the supervisor or deploy.sh, which verify it. Not meant for manual
    /// use. Prints the version.
    #[command(hide = true)]
    FetchRelease {
        /// The version [default: the newest].
        #[arg(long)]
        version: Option<Version>,
        /// Target folder.
        #[arg(long)]
        into: PathBuf,
        /// Part of the release to download.
        #[arg(long, value_enum, default_value_t = ReleasePart::All)]
        part: ReleasePart,
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// Run one execution. Started by the agent, not meant for manual use.
    #[command(hide = true)]
    Shim { execution: PathBuf },
    /// Transfer one file. Started by a shim, not meant for manual use.
    #[command(hide = true)]
    TransferFile { work: String },
    /// Print that this program runs executions. Started by a shim, not meant for manual use.
    #[command(hide = true)]
    Probe,
}

/// Selects the agent by its state directory.
#[derive(Args)]
struct StateDirArg {
    /// Directory of the agent's state [default: /var/lib/muster, ~/.muster without root].
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
        Mode::Explain { state, dir, requests, json } => {
            exit_code_of(explain(state, dir, requests, json))
        }
        Mode::Facts { state, json, watch_input } => exit_code_of(facts(state, json, watch_input)),
        Mode::EndExecutions { state, wait_s } => exit_code_of(end_executions(state, wait_s)),
        Mode::DiscardResults { state } => exit_code_of(discard_results(state)),
        Mode::Deregister(args) => exit_code_of(deregister(*args)),
        Mode::Doctor(args) => run_doctor(*args),
        Mode::RequestUpdate { version, run } => exit_code_of(request_update(version, *run)),
        Mode::Version => {
            print(&format!("muster-agent {}\n", muster_protocol::program::version::own()));
            ExitCode::SUCCESS
        }
        Mode::FetchRelease { version, into, part, run } => {
            exit_code_of(fetch_release(version, part, &into, *run))
        }
        Mode::Shim { execution } => run_shim(execution),
        Mode::TransferFile { work } => exit_code_of(transfer_file(&work)),
        Mode::Probe => {
            print(&muster_protocol::commands::probe::output(
                muster_protocol::program::version::own(),
            ));
            ExitCode::SUCCESS
        }
    }
}

fn run(args: RunArgs) -> ExitCode {
    start_log("info", args.log_format);
    match Config::load(args) {
        Ok(config) => match serve(config) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                tracing::error!("{}", error_chain(&*error));
                ExitCode::FAILURE
            }
        },
        // Only a change of the configuration helps, so the supervisor must not restart the agent.
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
    // A name lookup may block a thread; the process does not wait for it.
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

fn explain(
    state: StateDirArg,
    dir: Option<PathBuf>,
    requests: usize,
    json: bool,
) -> anyhow::Result<u8> {
    let explanation = Explanation::read(&state.path()?, dir, requests)?;
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&explanation)?));
    } else {
        print(&explanation.text());
    }
    Ok(0)
}

fn facts(state: StateDirArg, json: bool, watch_input: bool) -> anyhow::Result<u8> {
    let text = subcommands::facts::facts(&state.path()?, json, watch_input)?;
    print(&text);
    Ok(0)
}

fn discard_results(state: StateDirArg) -> anyhow::Result<u8> {
    let state = StateDir::at(&state.path()?);
    let discarded = subcommands::discard_results::discard_results(&state)?;
    print(&match discarded.identities {
        0 => "There are no results of former identities.\n".to_owned(),
        count => format!(
            "Deleted the results of former identities: {count} ledgers, {} KiB.\n",
            discarded.bytes.div_ceil(1024)
        ),
    });
    Ok(0)
}

fn end_executions(state: StateDirArg, wait_s: u64) -> anyhow::Result<u8> {
    let state = StateDir::at(&state.path()?);
    let outcome = subcommands::end_executions::end_executions(&state, Duration::from_secs(wait_s))?;
    print(&outcome.text());
    Ok(if outcome.left.is_empty() { 0 } else { 1 })
}

fn deregister(args: RunArgs) -> anyhow::Result<u8> {
    start_log("error", args.log_format);
    let outcome = match subcommands::deregister::enrolled(&config::state_dir(&args)?)? {
        // A host that was never enrolled may not be configured either.
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
    start_log("info", args.log_format);
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
        tracing::error!(
            error = error as &dyn std::error::Error,
            "not enough disk space for the download"
        );
        return Ok(NO_SPACE_EXIT);
    }
    fetched?;
    print(&format!("{version}\n"));
    Ok(0)
}

fn request_update(version: Option<Version>, args: RunArgs) -> anyhow::Result<u8> {
    start_log("error", args.log_format);
    let config = Config::load(args)?;
    let report = |text: &str| print(&format!("{text}\n"));
    let update = Box::pin(subcommands::request_update::request_update(&config, version, report));
    print(&format!("{}\n", on_runtime(update)??));
    Ok(0)
}

fn transfer_file(work: &str) -> anyhow::Result<u8> {
    let work: FileWork = serde_json::from_str(work).context("read the work")?;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let done = file_transfers::run(&work, &mut input, &mut output)?;
    // Standard output is the file of a pull.
    let _ = writeln!(std::io::stderr(), "{done}");
    Ok(0)
}

/// Prints to standard output and ignores a closed pipe.
fn print(text: &str) {
    // If the reader is gone, the exit status is enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints the error of a subcommand and returns the exit status.
fn exit_code_of(outcome: anyhow::Result<u8>) -> ExitCode {
    outcome.map_or_else(
        |error| {
            let _ = writeln!(std::io::stderr(), "muster-agent: {}", error_chain(&*error));
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn run_doctor(args: DoctorArgs) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "muster-agent: {}", error_chain(&*error));
            return ExitCode::FAILURE;
        }
    };
    let format = args.format();
    let findings = runtime.block_on(doctor::run_checks(args.run));
    runtime.shutdown_background();
    // A reader that is gone does not need the rest.
    let _ = write!(std::io::stdout(), "{}", doctor::render(&findings, format));
    match doctor::root_cause(&findings) {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

/// A runtime with one thread, and the TLS provider for all links.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS provider is installed already");
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 * 1024)
        .build()
        .context("failed to start the runtime")
}

fn run_shim(execution: PathBuf) -> ExitCode {
    match muster_agent::executions::shim::run(execution) {
        Ok(()) => ExitCode::SUCCESS,
        // The shim has written the error to the execution's log.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Starts the log; `level` applies if MUSTER_LOG is not set.
fn start_log(level: &str, format: Option<LogFormat>) {
    let format = format.unwrap_or_default();
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || LogOutput { out: std::io::stderr(), format })
        // Colours would be escaped with the rest.
        .with_ansi(false)
        // These errors would be printed to standard error by a macro that panics if that fails.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
}
