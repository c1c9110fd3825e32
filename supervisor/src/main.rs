//! `muster-supervisor`: reads the command line, wires the parts together and exits with the agent's
//! code.

// They panic if the reader of the pipe is gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use muster_protocol::error_chain;
use muster_protocol::program::backoff::Delays;
use muster_supervisor::fault_injection::CrashPoint;
use muster_supervisor::handover::{self, HandoverDecision};
use muster_supervisor::layout::Layout;
use muster_supervisor::log::{Level, Log, LogFile};
use muster_supervisor::platform::{self, ProcessController};
use muster_supervisor::policy::{RestartBackoff, RestartHistory};
use muster_supervisor::settings::{Action, CommandLine, RunArgs, Settings, VerifyArgs};
use muster_supervisor::status::{ServiceManager, StatusPublisher, health, watchdog_interval};
use muster_supervisor::supervise::{Finish, Supervisor, UpdateState};
use muster_supervisor::update::{BootCounter, TrustPolicy, UpdateManager, verify_download};

fn main() -> ExitCode {
    // First, before anything that can end this program.
    let (boot_counter, other) =
        BootCounter::start(env::args_os().skip(1), env::var_os("MUSTER_DIR"));
    if let Some(other) = other {
        let error = platform::exec_program(&other, env::args_os().skip(1));
        let other = other.display();
        let _ = writeln!(std::io::stderr(), "muster-supervisor: failed to exec {other}: {error}");
    }
    let args = match CommandLine::parse().command {
        Action::Run(args) => args,
        Action::Health { state_dir } => return health(state_dir),
        Action::SelfTest { args } => return self_test(args),
        Action::VerifyRelease(args) => return verify(args),
    };
    let settings = settings(args);
    let level = Level::from_setting(env::var("MUSTER_LOG").ok().as_deref());
    let log = Log::new(level, settings.log_format);
    match run(settings, boot_counter, log.clone()) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            log.error(error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn health(state_dir: Option<PathBuf>) -> ExitCode {
    match health::check(&state_dir.unwrap_or_else(platform::default_state_dir)) {
        Ok(sentence) => {
            // The reader of the pipe may be gone.
            let _ = writeln!(std::io::stdout(), "{sentence}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn settings(args: RunArgs) -> Settings {
    Settings::new(args, platform::is_init(), platform::default_state_dir())
}

/// Checks that this supervisor can start on this host and accepts the arguments and environment
/// that it will be started with.
fn self_test(args: Vec<OsString>) -> ExitCode {
    if !args.is_empty() {
        let own = iter::once(OsString::from("muster-supervisor"));
        let settings = match CommandLine::try_parse_from(own.chain(args)) {
            Ok(CommandLine { command: Action::Run(args) }) => settings(args),
            Ok(_) => return ExitCode::FAILURE,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{error}");
                return ExitCode::FAILURE;
            }
        };
        if Layout::new(settings.agent, settings.install_dir).is_err() {
            return ExitCode::FAILURE;
        }
    }
    match ProcessController::new() {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn verify(args: VerifyArgs) -> ExitCode {
    let examined = TrustPolicy::of(&args.dir).map_err(Into::into).and_then(|mut trust| {
        trust.pins.fingerprint = args.release_key.or(trust.pins.fingerprint);
        trust.pins.floor = trust.pins.floor.max(args.min_version);
        trust.accepts_any_key = args.any_key;
        verify_download(&args.folder, &args.version, &trust)
    });
    match examined {
        Ok(examined) => {
            let found = format!("key={}\nfloor={}\n", examined.fingerprint, examined.floor);
            // Without its reader the check has no effect, so it has not succeeded.
            match std::io::stdout().write_all(found.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}: {}", error.code(), error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(mut settings: Settings, boot_counter: BootCounter, log: Log) -> anyhow::Result<i32> {
    let mut layout = Layout::new(settings.agent.clone(), settings.install_dir.clone())?;
    let mut host = ProcessController::new().context("failed to register signal handlers")?;
    if let Some(parent) = settings.parent_pid
        && !platform::end_with_process(parent).context("failed to follow the parent process")?
    {
        log.info("the parent process has ended");
        return Ok(0);
    }
    if let Some(program) = settings.install_dir.as_deref().filter(|_| settings.is_from_image) {
        match handover::decide(program, &layout, &mut host, &log) {
            HandoverDecision::RunOwn => {}
            HandoverDecision::RunOwnPrograms => {
                settings.install_dir = None;
                layout = Layout::new(settings.agent.clone(), None)?;
            }
            HandoverDecision::Stop => return Ok(0),
            HandoverDecision::Exec(other) => {
                let error = platform::exec_program(&other, env::args_os().skip(1));
                log.error(format_args!("failed to exec {}: {error}", other.display()));
            }
        }
    }
    match supervise(settings, boot_counter, layout, host, log)? {
        Finish::Exit(code) => Ok(code),
        Finish::Exec(successor) => {
            CrashPoint::HandingOver.trigger();
            // `exec` keeps the process, the environment and the arguments, so the service manager
            // sees no change.
            let error = platform::exec_program(&successor, env::args_os().skip(1));
            Err(error).with_context(|| format!("failed to exec {}", successor.display()))
        }
    }
}

fn supervise(
    settings: Settings,
    boot_counter: BootCounter,
    layout: Layout,
    host: ProcessController,
    log: Log,
) -> anyhow::Result<Finish> {
    let log_file = settings.log_dir.as_deref().and_then(|folder| open_log(folder, &log));
    let collector = log_file.as_ref().and_then(|file| file.writer().ok());
    let log = match collector {
        Some(collector) => log.collected_by(collector),
        None => log,
    };
    let delays = || match settings.backoff_max {
        Some(max) => Delays::new(max, max),
        None => Delays::for_restart(),
    };
    let watchdog = watchdog_interval(
        env::var("WATCHDOG_USEC").ok().as_deref(),
        env::var("WATCHDOG_PID").ok().as_deref(),
        std::process::id(),
    );
    let updates = match settings.install_dir.as_deref() {
        Some(program) => UpdateManager::open(program, &settings.state_dir, boot_counter),
        None => Ok(None),
    };
    // Without updates the supervisor still restarts the agent.
    let updates = updates.unwrap_or_else(|error| {
        log.error(format_args!("updates are off: {}", error_chain(&error)));
        None
    });
    let supervisor = Supervisor {
        layout,
        update_state: UpdateState::new(updates, RestartBackoff::new(delays())),
        processes: host,
        status: StatusPublisher::new(
            settings.state_dir.clone(),
            ServiceManager::from_environment(),
            log.clone(),
        ),
        history: RestartHistory::new(settings.healthy_after),
        backoff: RestartBackoff::new(delays()),
        watchdog_interval: watchdog,
        hangup_stops: std::io::stdin().is_terminal(),
        log,
        log_file,
        settings,
    };
    Ok(supervisor.run()?)
}

/// A missing log file must not keep the agent from running.
fn open_log(folder: &Path, log: &Log) -> Option<LogFile> {
    LogFile::open(folder).inspect_err(|error| log.warn(error_chain(error))).ok()
}
