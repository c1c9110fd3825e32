//! `muster-supervisor`: puts the parts together and exits with the agent's verdict.

use std::env;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use muster_protocol::backoff::Delays;
use muster_supervisor::board::Board;
use muster_supervisor::layout::Layout;
use muster_supervisor::log::{Level, Log, chain};
use muster_supervisor::log_file::LogFile;
use muster_supervisor::notify::{Notifier, watchdog_interval};
use muster_supervisor::platform::{self, Host};
use muster_supervisor::policy::{History, Pacer};
use muster_supervisor::release::NoReleases;
use muster_supervisor::settings::{Action, CommandLine, Settings};
use muster_supervisor::supervise::Supervisor;

fn main() -> ExitCode {
    let Action::Run(args) = CommandLine::parse().command;
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

fn run(settings: Settings, log: Log) -> anyhow::Result<i32> {
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
    let supervisor = Supervisor {
        layout: Layout::new(settings.agent.clone(), settings.install_dir.clone())?,
        host: Host::new().context("take over signals")?,
        board: Board::new(settings.state_dir.clone(), Notifier::from_environment(), log.clone()),
        updater: NoReleases,
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
