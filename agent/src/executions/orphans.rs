//! Finds and kills the processes of an execution: descendants of this process, processes that carry the
//! execution's environment entry, and what this process adopts when a shim that it has started is killed.
//!
//! Each shim adopts its orphans and ends all its descendants, so what the agent adopts belongs to a shim that
//! vanished. What a shim leaves that an earlier agent process has started is adopted by another process, and found
//! only by its session and its environment.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::environment::ENV_MARKER;
use super::launcher::own_shims;
use crate::executions::ledger::record::StartedRecord;
use crate::platform::{self, ProcessStat, Signal};

/// Killed processes vanish at once unless the kernel holds them; the wait for them is bounded.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// All descendants of `ancestor` except zombies.
pub fn descendants(ancestor: u32) -> Vec<ProcessStat> {
    let all = platform::all_processes();
    let mut family = BTreeSet::from([ancestor]);
    // A parent may follow its children in the list: repeat until nothing is added.
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

/// Signals a process, unless its number was reused by another process since it was read.
pub fn signal(process: &ProcessStat, signal: Signal) {
    let held = platform::open_process(process.pid);
    // Checked after opening: if the number still belongs to the same process, so does the
    // descriptor.
    let is_same =
        ProcessStat::of(process.pid).is_some_and(|now| now.start_ticks == process.start_ticks);
    if !is_same {
        return;
    }
    match held {
        Ok(held) if platform::signal_open_process(&held, signal).is_ok() => {}
        // The system has no process descriptors, or none are left.
        _ => platform::signal_process(process.pid, signal),
    }
}

/// Kills everything that a vanished shim has left: its session, and all processes that carry the
/// command's environment entry. Blocks until nothing is left or the time is up. True if nothing is
/// left.
pub fn kill_orphans(command_id: Uuid, started: Option<&StartedRecord>) -> bool {
    // After a reboot nothing is left, and the numbers belong to other processes.
    if started.is_some_and(|started| started.boot_id != platform::boot_id()) {
        return true;
    }
    let mark = format!("{ENV_MARKER}={}", command_id.hyphenated());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (all, adopted) = {
            let own = own_shims();
            let all = platform::all_processes();
            let adopted = adopted(&all, std::process::id(), &own);
            (all, adopted)
        };
        let session = started.filter(|started| !is_pid_reused(started, &all));
        let left: Vec<_> = all
            .into_iter()
            .filter(|process| {
                let is_adopted = adopted.contains(&process.pid);
                if is_adopted && process.is_zombie && process.parent == std::process::id() {
                    platform::reap(process.pid);
                }
                !process.is_zombie
                    && (is_adopted || belongs_to_execution(process, started, session, &mark))
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

/// Children of this process that it has not started itself, and all their descendants. Process 1 adopts everything,
/// also what is not of its shims.
fn adopted(all: &[ProcessStat], this: u32, own: &[ProcessStat]) -> BTreeSet<u32> {
    if this == 1 {
        return BTreeSet::new();
    }
    let is_own = |it: &ProcessStat| own.iter().any(|known| known.is_same(it));
    let mut family: BTreeSet<u32> =
        all.iter().filter(|it| it.parent == this && !is_own(it)).map(|it| it.pid).collect();
    loop {
        let before = family.len();
        let children = all.iter().filter(|it| family.contains(&it.parent)).map(|it| it.pid);
        let children: Vec<u32> = children.collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

/// True if the session's number belongs to another session now. The system does not reuse the
/// number while a process of the old session is alive.
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
    // A process older than the shim has the same numbers by chance.
    if started.is_some_and(|started| process.start_ticks < started.shim_start_ticks) {
        return false;
    }
    let is_in_session = session.is_some_and(|session| process.session == session.shim_pid);
    is_in_session || platform::has_environment_entry(process.pid, mark)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_without_its_session_and_environment_is_found_after_its_shim_was_killed() {
        platform::become_subreaper().expect("the system supports it");
        // In place of the shim: it starts a process that leaves its session and its environment, and is gone.
        let text = "setsid env -i /bin/sh -c 'echo $$; exec sleep 1000' & wait";
        let mut shim = Command::new("sh");
        let mut shim = shim.args(["-c", text]).stdout(Stdio::piped()).spawn().expect("sh");
        own_shims().extend(ProcessStat::of(shim.id()));
        let mut line = String::new();
        BufReader::new(shim.stdout.take().expect("piped")).read_line(&mut line).expect("a number");
        let left: u32 = line.trim().parse().expect("a number");
        shim.kill().expect("killed");
        shim.wait().expect("reaped");
        assert!(ProcessStat::of(left).is_some_and(|it| it.parent == std::process::id()));
        // Another shim of this process goes on.
        let mut other = Command::new("sleep").arg("1000").spawn().expect("sleep");
        own_shims().extend(ProcessStat::of(other.id()));
        assert!(kill_orphans(Uuid::from_u128(1), None));
        assert!(ProcessStat::of(left).is_none_or(|it| it.is_zombie));
        assert!(ProcessStat::of(other.id()).is_some_and(|it| !it.is_zombie));
        other.kill().expect("killed");
        other.wait().expect("reaped");
    }
}
