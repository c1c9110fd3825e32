//! `muster-supervisor`: puts the parts together and exits with the agent's verdict.

use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use muster_protocol::backoff::Delays;
use muster_supervisor::board::Board;
use muster_supervisor::fault::Cut;
use muster_supervisor::handover::{self, Next};
use muster_supervisor::health;
use muster_supervisor::layout::Layout;
use muster_supervisor::log::{Level, Log, chain};
use muster_supervisor::log_file::LogFile;
use muster_supervisor::notify::{Notifier, watchdog_interval};
use muster_supervisor::platform::{self, Host};
use muster_supervisor::policy::{History, Pacer};
use muster_supervisor::settings::{Action, CommandLine, RunArgs, Settings, VerifyArgs};
use muster_supervisor::supervise::{Finish, Supervisor, Updating};
use muster_supervisor::update::{Guard, Trust, Updates, examine};

fn main() -> ExitCode {
    // Before anything that may end this program.
    let (guard, other) = Guard::begin(env::args_os().skip(1), env::var_os("MUSTER_DIR"));
    if let Some(other) = other {
        let error = platform::become_program(&other, env::args_os().skip(1));
        eprintln!("muster-supervisor: failed to become {}: {error}", other.display());
    }
    let args = match CommandLine::parse().command {
        Action::Run(args) => args,
        Action::Health { state_dir } => return health(state_dir),
        Action::SelfTest { args } => return self_test(args),
        Action::VerifyRelease(args) => return verify(args),
    };
    let settings = settings(args);
    let log = Log::new(Level::from_setting(env::var("MUSTER_LOG").ok().as_deref()));
    match run(settings, guard, log.clone()) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            log.error(format_args!("failed to {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn health(state_dir: Option<PathBuf>) -> ExitCode {
    match health::look(&state_dir.unwrap_or_else(platform::default_state_dir)) {
        Ok(sentence) => {
            // Nobody need read it.
            let _ = writeln!(std::io::stdout(), "{sentence}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "failed to {error}");
            ExitCode::FAILURE
        }
    }
}

fn settings(args: RunArgs) -> Settings {
    Settings::new(args, platform::is_init(), platform::default_state_dir())
}

/// Whatever a supervisor needs of the system, and whether it understands what it will be started
/// with; the environment is the one that it will have.
fn self_test(args: Vec<OsString>) -> ExitCode {
    if !args.is_empty() {
        let own = iter::once(OsString::from("muster-supervisor"));
        let settings = match CommandLine::try_parse_from(own.chain(args)) {
            Ok(CommandLine { command: Action::Run(args) }) => settings(args),
            Ok(_) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        if Layout::new(settings.agent, settings.install_dir).is_err() {
            return ExitCode::FAILURE;
        }
    }
    match Host::new() {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn verify(args: VerifyArgs) -> ExitCode {
    let examined = Trust::of(&args.dir).map_err(Into::into).and_then(|mut trust| {
        trust.pins.fingerprint = args.release_key.or(trust.pins.fingerprint);
        trust.is_any_key_good = args.any_key;
        examine(&args.folder, &args.version, &trust)
    });
    match examined {
        Ok(examined) => {
            println!("key={}\nfloor={}", examined.fingerprint, examined.floor);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {}", error.code(), chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(mut settings: Settings, guard: Guard, log: Log) -> anyhow::Result<i32> {
    let mut layout = Layout::new(settings.agent.clone(), settings.install_dir.clone())?;
    let mut host = Host::new().context("take over signals")?;
    if let Some(program) = settings.install_dir.as_deref().filter(|_| settings.is_from_image) {
        match handover::prepare(program, &layout, &mut host, &log) {
            Next::Own => {}
            Next::OwnAlone => {
                settings.install_dir = None;
                layout = Layout::new(settings.agent.clone(), None)?;
            }
            Next::Stopped => return Ok(0),
            Next::Other(other) => {
                let error = platform::become_program(&other, env::args_os().skip(1));
                log.error(format_args!("failed to become {}: {error}", other.display()));
            }
        }
    }
    match supervise(settings, guard, layout, host, log)? {
        Finish::Exit(code) => Ok(code),
        Finish::Anew(successor) => {
            Cut::HandingOver.here();
            // It keeps the process, its environment and its arguments: to the service manager
            // nothing has happened.
            let error = platform::become_program(&successor, env::args_os().skip(1));
            Err(error).with_context(|| format!("start {}", successor.display()))
        }
    }
}

fn supervise(
    settings: Settings,
    guard: Guard,
    layout: Layout,
    host: Host,
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
        Some(program) => Updates::of(program, &settings.state_dir, guard),
        None => Ok(None),
    };
    // Without the right to change versions it only restarts.
    let updates = updates.unwrap_or_else(|error| {
        log.error(format_args!("no updates: failed to {}", chain(&error)));
        None
    });
    let supervisor = Supervisor {
        layout,
        updating: Updating::new(updates, Pacer::new(delays())),
        host,
        board: Board::new(settings.state_dir.clone(), Notifier::from_environment(), log.clone()),
        history: History::new(settings.healthy_after),
        pacer: Pacer::new(delays()),
        watchdog_interval: watchdog,
        hangup_stops: std::io::stdin().is_terminal(),
        log,
        log_file,
        settings,
    };
    Ok(supervisor.run()?)
}

/// A log that can't be kept is no reason to let the agent down.
fn open_log(folder: &Path, log: &Log) -> Option<LogFile> {
    LogFile::open(folder).inspect_err(|error| log.warn(chain(error))).ok()
}
