//! Decides what to do about a command from its on-disk state alone.

/// The on-disk state of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OnDiskState {
    /// A complete command record exists: it was accepted.
    pub has_command: bool,
    /// The lock is held: a shim is running.
    pub is_locked: bool,
    /// The child was spawned, or was about to be.
    pub has_started: bool,
    /// A complete result of the agent or the shim exists.
    pub has_settlement: bool,
    /// Its cancellation was requested.
    pub has_cancel: bool,
    pub window: StartWindow,
}

/// Whether the command may still be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartWindow {
    Open,
    Passed,
}

/// What to do about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecoveryAction {
    /// It is settled: report it.
    Report,
    /// Its shim is running: watch it.
    Reattach,
    /// It was accepted and never started: start it.
    Start,
    /// It was cancelled and never started.
    Cancel,
    /// Its time to start has passed.
    Expire,
    /// It was started and its result can't be known: kill its remaining processes.
    Lose,
    /// It was never accepted: the agent ended while writing it. Nothing was promised.
    Discard,
}

/// Decides about one command. A command that was started is never started again.
pub fn decide(on_disk: OnDiskState) -> RecoveryAction {
    let OnDiskState { has_command, is_locked, has_started, has_settlement, has_cancel, window } =
        on_disk;
    if has_settlement {
        return RecoveryAction::Report;
    }
    if is_locked {
        return RecoveryAction::Reattach;
    }
    if has_started {
        return RecoveryAction::Lose;
    }
    match (has_command, has_cancel, window) {
        (false, _, _) => RecoveryAction::Discard,
        (true, true, _) => RecoveryAction::Cancel,
        (true, false, StartWindow::Passed) => RecoveryAction::Expire,
        (true, false, StartWindow::Open) => RecoveryAction::Start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = OnDiskState> {
        (0..64u32).map(|bits| OnDiskState {
            has_command: bits & 1 != 0,
            is_locked: bits & 2 != 0,
            has_started: bits & 4 != 0,
            has_settlement: bits & 8 != 0,
            has_cancel: bits & 16 != 0,
            window: if bits & 32 != 0 { StartWindow::Open } else { StartWindow::Passed },
        })
    }

    #[test]
    fn a_started_command_is_never_started_again() {
        for on_disk in all().filter(|on_disk| on_disk.has_started) {
            assert_ne!(decide(on_disk), RecoveryAction::Start, "{on_disk:?}");
        }
    }

    #[test]
    fn a_running_or_settled_command_is_never_lost_or_discarded() {
        for on_disk in all().filter(|on_disk| on_disk.is_locked || on_disk.has_settlement) {
            assert!(
                matches!(decide(on_disk), RecoveryAction::Report | RecoveryAction::Reattach),
                "{on_disk:?}"
            );
        }
    }

    #[test]
    fn only_an_accepted_unlocked_uncancelled_command_within_its_deadline_starts() {
        for on_disk in all() {
            let may_start = on_disk.has_command
                && !on_disk.is_locked
                && !on_disk.has_started
                && !on_disk.has_settlement
                && !on_disk.has_cancel
                && on_disk.window == StartWindow::Open;
            assert_eq!(decide(on_disk) == RecoveryAction::Start, may_start, "{on_disk:?}");
        }
    }

    #[test]
    fn a_started_command_without_result_and_shim_is_lost() {
        for on_disk in all() {
            let is_lost = on_disk.has_started && !on_disk.is_locked && !on_disk.has_settlement;
            assert_eq!(decide(on_disk) == RecoveryAction::Lose, is_lost, "{on_disk:?}");
        }
    }

    #[test]
    fn only_a_command_that_was_never_accepted_is_discarded() {
        for on_disk in all().filter(|on_disk| decide(*on_disk) == RecoveryAction::Discard) {
            assert!(!on_disk.has_command && !on_disk.has_started && !on_disk.has_settlement);
        }
    }
}
