//! What to do about a command, judged by nothing but the traces on disk.

/// The traces of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// A whole command record: it was accepted.
    pub has_command: bool,
    /// Somebody holds the lock: a shim lives.
    pub is_locked: bool,
    /// The child was, or was about to be, spawned.
    pub has_started: bool,
    /// A last word, by agent or shim, that is whole.
    pub has_settlement: bool,
    /// Its end was asked for.
    pub has_cancel: bool,
    pub window: Window,
}

/// Whether the command may still be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    Open,
    Passed,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// It is settled: report it.
    Report,
    /// Its shim lives: watch it.
    Reattach,
    /// It was accepted and never started: start it.
    Start,
    /// It was cancelled and never started.
    Cancel,
    /// Its time to start has passed.
    Expire,
    /// It was started and what came of it can't be known: end what is left of it.
    Lose,
    /// It was never accepted: the agent ended while writing it down. No promise was made.
    Discard,
}

/// Judges one command. Anything that was started is never started again.
pub fn judge(evidence: Evidence) -> Recovery {
    let Evidence { has_command, is_locked, has_started, has_settlement, has_cancel, window } =
        evidence;
    if has_settlement {
        return Recovery::Report;
    }
    if is_locked {
        return Recovery::Reattach;
    }
    if has_started {
        return Recovery::Lose;
    }
    match (has_command, has_cancel, window) {
        (false, _, _) => Recovery::Discard,
        (true, true, _) => Recovery::Cancel,
        (true, false, Window::Passed) => Recovery::Expire,
        (true, false, Window::Open) => Recovery::Start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Evidence> {
        (0..64u32).map(|bits| Evidence {
            has_command: bits & 1 != 0,
            is_locked: bits & 2 != 0,
            has_started: bits & 4 != 0,
            has_settlement: bits & 8 != 0,
            has_cancel: bits & 16 != 0,
            window: if bits & 32 != 0 { Window::Open } else { Window::Passed },
        })
    }

    #[test]
    fn nothing_that_was_started_is_started_again() {
        for evidence in all().filter(|evidence| evidence.has_started) {
            assert_ne!(judge(evidence), Recovery::Start, "{evidence:?}");
        }
    }

    #[test]
    fn a_living_shim_or_a_settled_command_is_never_lost_or_thrown_away() {
        for evidence in all().filter(|evidence| evidence.is_locked || evidence.has_settlement) {
            assert!(
                matches!(judge(evidence), Recovery::Report | Recovery::Reattach),
                "{evidence:?}"
            );
        }
    }

    #[test]
    fn only_a_free_accepted_uncancelled_command_in_its_window_starts() {
        for evidence in all() {
            let may_start = evidence.has_command
                && !evidence.is_locked
                && !evidence.has_started
                && !evidence.has_settlement
                && !evidence.has_cancel
                && evidence.window == Window::Open;
            assert_eq!(judge(evidence) == Recovery::Start, may_start, "{evidence:?}");
        }
    }

    #[test]
    fn started_without_end_and_without_shim_is_lost() {
        for evidence in all() {
            let is_lost = evidence.has_started && !evidence.is_locked && !evidence.has_settlement;
            assert_eq!(judge(evidence) == Recovery::Lose, is_lost, "{evidence:?}");
        }
    }

    #[test]
    fn only_what_left_no_promise_is_discarded() {
        for evidence in all().filter(|evidence| judge(*evidence) == Recovery::Discard) {
            assert!(!evidence.has_command && !evidence.has_started && !evidence.has_settlement);
        }
    }
}
