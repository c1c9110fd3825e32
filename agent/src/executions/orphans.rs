//! ExecutionEnd what an execution left behind: first those below this process, later those that bear its mark.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::environment::ENV_MARKER;
use crate::executions::ledger::record::StartedRecord;
use crate::platform::{self, ProcessStat, Signal};

/// Killed processes vanish at once, unless the kernel holds them; that is not waited for for ever.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Everything below `ancestor`, dead ones left out.
pub fn descendants(ancestor: u32) -> Vec<ProcessStat> {
    let all = platform::all_processes();
    let mut family = BTreeSet::from([ancestor]);
    // Parents may stand behind their children in the list: repeat until nothing is added.
    loop {
        let before = family.len();
        for process in &all {
            if family.contains(&process.parent) {
                family.insert(process.pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    all.into_iter()
        .filter(|it| it.pid != ancestor && family.contains(&it.pid) && !it.is_zombie)
        .collect()
}

/// Signals a process, unless its number has gone to another one since it was looked at.
pub fn signal(process: &ProcessStat, signal: Signal) {
    let held = platform::open_process(process.pid);
    // Looked at after opening: if it is the one that was meant, so is the one that is held.
    let is_same =
        ProcessStat::of(process.pid).is_some_and(|now| now.start_ticks == process.start_ticks);
    if !is_same {
        return;
    }
    match held {
        Ok(held) if platform::signal_open_process(&held, signal).is_ok() => {}
        // A system without descriptors of processes, or none left of them.
        _ => platform::signal_process(process.pid, signal),
    }
}

/// Kills all that a vanished shim has left: its session, and whatever bears the command's mark.
/// Blocks until nothing is left or patience is. True if nothing is left.
pub fn kill_orphans(command_id: Uuid, started: Option<&StartedRecord>) -> bool {
    // After another boot there is nothing left of it, and its numbers mean other processes.
    if started.is_some_and(|started| started.boot_id != platform::boot_id()) {
        return true;
    }
    let mark = format!("{ENV_MARKER}={}", command_id.hyphenated());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = platform::all_processes();
        let session = started.filter(|started| !is_pid_reused(started, &all));
        let left: Vec<_> = all
            .into_iter()
            .filter(|process| {
                !process.is_zombie && belongs_to_execution(process, started, session, &mark)
            })
            .collect();
        if left.is_empty() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        for process in &left {
            signal(process, Signal::Kill);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// True if the session's number has gone to another session. As long as a process of the old one
/// lives, the system gives its number to nobody.
fn is_pid_reused(started: &StartedRecord, all: &[ProcessStat]) -> bool {
    let is_other = |it: &ProcessStat| it.start_ticks != started.shim_start_ticks;
    all.iter().any(|process| process.pid == started.shim_pid && is_other(process))
}

fn belongs_to_execution(
    process: &ProcessStat,
    started: Option<&StartedRecord>,
    session: Option<&StartedRecord>,
    mark: &str,
) -> bool {
    // Older than the shim: the same numbers by chance.
    if started.is_some_and(|started| process.start_ticks < started.shim_start_ticks) {
        return false;
    }
    let is_in_session = session.is_some_and(|session| process.session == session.shim_pid);
    is_in_session || platform::has_environment_entry(process.pid, mark)
}
