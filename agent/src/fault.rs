//! Faults that can be injected so that tests can show that they are detected. Only debug
//! builds read `MUSTER_FAULT`; in other builds no fault is ever on.

use std::ffi::OsString;

const VARIABLE: &str = "MUSTER_FAULT";

/// A guarantee to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `unsynced_start`: the start mark of an execution is written but not synced.
    UnsyncedStart,
    /// `forgotten_commands`: a command that is delivered again counts as a new one.
    ForgottenCommands,
    /// `failing_starts`: no execution can start its program.
    FailingStarts,
}

impl Fault {
    /// True if this fault is injected.
    pub fn is_on(self) -> bool {
        let name = match self {
            Self::UnsyncedStart => "unsynced_start",
            Self::ForgottenCommands => "forgotten_commands",
            Self::FailingStarts => "failing_starts",
        };
        named().is_some_and(|names| names.to_string_lossy().split(',').any(|it| it == name))
    }
}

/// The variable that passes the faults on to shims.
pub fn shim_variable() -> Option<(&'static str, OsString)> {
    named().map(|names| (VARIABLE, names))
}

/// Logs a warning if faults are injected.
pub fn warn_if_set() {
    if let Some(faults) = named() {
        tracing::warn!(?faults, "{VARIABLE} is set: this program injects faults");
    }
}

fn named() -> Option<OsString> {
    if cfg!(debug_assertions) { std::env::var_os(VARIABLE) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_is_injected_by_default() {
        assert!(!Fault::UnsyncedStart.is_on() && !Fault::ForgottenCommands.is_on());
        assert_eq!(shim_variable(), None);
    }
}
