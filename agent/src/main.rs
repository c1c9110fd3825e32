//! `muster-agent`: the agent, or, started by it, the shim of one job.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use muster_agent::config::{Config, RunArgs};
use muster_agent::doctor::{self, DoctorArgs};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "muster-agent", version, about = "Muster's agent for one host")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Connect to the server and carry out what it may ask for.
    Run(Box<RunArgs>),
    /// Say what stands between this host and its server, and what to do about it. Takes the
    /// options of `run`, changes nothing, and may be called while an agent runs or before any does.
    /// Exits with 0 if nothing failed, 1 otherwise, 2 if called wrongly.
    Doctor(Box<DoctorArgs>),
    /// Print the version.
    Version,
    /// Keep one job. Started by the agent, not by people.
    #[command(hide = true)]
    Shim { job: PathBuf },
}

fn main() -> ExitCode {
    match Arguments::parse().mode {
        Mode::Run(args) => run(*args),
        Mode::Doctor(args) => examine(*args),
        Mode::Version => {
            println!("muster-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Mode::Shim { job } => keep(job),
    }
}

fn run(args: RunArgs) -> ExitCode {
    start_log();
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
    let runtime = runtime()?;
    let code = runtime.block_on(muster_agent::run::run(config))?;
    // A look-up of a name may hang in a thread; nothing waits for it.
    runtime.shutdown_background();
    Ok(code.code() as u8)
}

fn examine(args: DoctorArgs) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "failed to {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let form = args.form();
    let findings = runtime.block_on(doctor::examine(args.run));
    runtime.shutdown_background();
    // Whoever stopped reading does not want to know.
    let _ = write!(std::io::stdout(), "{}", doctor::render(&findings, form));
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

fn keep(job: PathBuf) -> ExitCode {
    match muster_agent::exec::shim::run(job) {
        Ok(()) => ExitCode::SUCCESS,
        // It stands in the job's log.
        Err(_) => ExitCode::FAILURE,
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        // It would be told on standard error, by a macro that panics where that can't be written.
        .log_internal_errors(false)
        .init();
}
