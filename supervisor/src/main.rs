//! `muster-supervisor`: puts the parts together and exits with the agent's verdict.

use std::env;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use muster_protocol::backoff::Delays;
use muster_supervisor::board::Board;
use muster_supervisor::handover::{self, Next};
use muster_supervisor::health;
use muster_supervisor::layout::Layout;
use muster_supervisor::log::{Level, Log, chain};
use muster_supervisor::log_file::LogFile;
use muster_supervisor::notify::{Notifier, watchdog_interval};
use muster_supervisor::platform::{self, Host};
use muster_supervisor::policy::{History, Pacer};
use muster_supervisor::settings::{Action, CommandLine, Settings};
use muster_supervisor::supervise::{Finish, Supervisor, Updating};
use muster_supervisor::update::Updates;

fn main() -> ExitCode {
    let args = match CommandLine::parse().command {
        Action::Run(args) => args,
        Action::Health { state_dir } => return health(state_dir),
        Action::SelfTest => return self_test(),
    };
    let settings = Settings::new(args, platform::is_init(), platform::default_state_dir());
    let log = Log::new(Level::from_setting(env::var("MUSTER_LOG").ok().as_deref()));
    match run(settings, log.clone()) {
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

/// Whatever a supervisor needs of the system.
fn self_test() -> ExitCode {
    match Host::new() {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(mut settings: Settings, log: Log) -> anyhow::Result<i32> {
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
    let successor = layout.current_supervisor();
    match supervise(settings, layout, host, log)? {
        Finish::Exit(code) => Ok(code),
        Finish::Anew => {
            let successor = successor.context("find the supervisor of the new version")?;
            // It keeps the process, its environment and its arguments: to the service manager
            // nothing has happened.
            let error = platform::become_program(&successor, env::args_os().skip(1));
            Err(error).with_context(|| format!("start {}", successor.display()))
        }
    }
}

fn supervise(settings: Settings, layout: Layout, host: Host, log: Log) -> anyhow::Result<Finish> {
    let log_file = settings.log_dir.as_deref().and_then(|folder| open_log(folder, &log));
    let collector = log_file.as_ref().and_then(|file| file.writer().ok());
    let log = match collector {
        Some(collector) => log.collected_by(collector),
        None => log,
    };
    let delays = match settings.backoff_max {
        Some(max) => Delays::new(max, max),
        None => Delays::for_restart(),
    };
    let watchdog = watchdog_interval(
        env::var("WATCHDOG_USEC").ok().as_deref(),
        env::var("WATCHDOG_PID").ok().as_deref(),
        std::process::id(),
    );
    let installation = settings.install_dir.as_deref();
    let updates = installation.and_then(|program| Updates::of(program, &settings.state_dir));
    let supervisor = Supervisor {
        layout,
        updating: Updating::new(updates),
        host,
        board: Board::new(settings.state_dir.clone(), Notifier::from_environment(), log.clone()),
        history: History::new(settings.healthy_after),
        pacer: Pacer::new(delays),
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
