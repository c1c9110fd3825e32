//! Promises that this program can be made to break, so that the chaos suite can show that it would
//! event. Only debug builds look for `MUSTER_FAULT`; in any other every answer is no.

use std::ffi::OsString;

const VARIABLE: &str = "MUSTER_FAULT";

/// A promise to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `unsynced_start`: the mark that an execution was started is written, and not synced.
    UnsyncedStart,
    /// `forgotten_commands`: a command that is delivered again is taken for a new one.
    ForgottenCommands,
}

impl Fault {
    /// True if this promise is to be broken.
    pub fn is_on(self) -> bool {
        let name = match self {
            Self::UnsyncedStart => "unsynced_start",
            Self::ForgottenCommands => "forgotten_commands",
        };
        named().is_some_and(|names| names.to_string_lossy().split(',').any(|it| it == name))
    }
}

/// What shims are told, who break promises with their agent.
pub fn shim_variable() -> Option<(&'static str, OsString)> {
    named().map(|names| (VARIABLE, names))
}

/// Says loudly that promises are broken, if they are.
pub fn warn_if_set() {
    if let Some(faults) = named() {
        tracing::warn!(?faults, "{VARIABLE} is set: this program breaks its promises on purpose");
    }
}

fn named() -> Option<OsString> {
    if cfg!(debug_assertions) { std::env::var_os(VARIABLE) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_broken_unless_it_is_asked_for() {
        assert!(!Fault::UnsyncedStart.is_on() && !Fault::ForgottenCommands.is_on());
        assert_eq!(shim_variable(), None);
    }
}
