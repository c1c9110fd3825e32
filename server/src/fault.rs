//! Promises that this program can be made to break, so that the chaos suite can show that it would
//! notice. Only debug builds look for `MUSTER_FAULT`; in any other every answer is no.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const VARIABLE: &str = "MUSTER_FAULT";

/// A promise to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `early_ack`: a result is acknowledged before it is committed, [`DELAY`] later.
    EarlyAck,
    /// `repeated_delivery`: every durable command is sent once more, [`DELAY`] later. Agents have to
    /// bear it.
    RepeatedDelivery,
}

/// How much later, so that something can happen in between.
pub const DELAY: Duration = Duration::from_millis(700);

impl Fault {
    /// True if this guarantee must be broken.
    pub fn is_on(self) -> bool {
        let name = match self {
            Self::EarlyAck => "early_ack",
            Self::RepeatedDelivery => "repeated_delivery",
        };
        is_named(name)
    }
}

/// A step of the rotation of the master key. Before it, tests kill the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationStep {
    /// The next key is durable, and seals nothing yet.
    DeleteTokenKeys,
    SealValues,
    /// Some values are sealed with the next key, and some with the present one.
    SealMoreValues,
    /// All values of tables are sealed with the next key.
    SealSettings,
    WriteAuditEntry,
    /// The record names the present key, which seals nothing else any more.
    SealRecord,
    /// The record names the next key, which has the other file name.
    LinkPreviousFile,
    RenameNextFile,
}

impl RotationStep {
    /// All steps, in their order.
    pub const ALL: [Self; 8] = [
        Self::DeleteTokenKeys,
        Self::SealValues,
        Self::SealMoreValues,
        Self::SealSettings,
        Self::WriteAuditEntry,
        Self::SealRecord,
        Self::LinkPreviousFile,
        Self::RenameNextFile,
    ];

    /// The value of `MUSTER_FAULT` that kills the program before this step.
    pub const fn fault(self) -> &'static str {
        match self {
            Self::DeleteTokenKeys => "killed_before_deleting_token_keys",
            Self::SealValues => "killed_before_sealing_values",
            Self::SealMoreValues => "killed_before_sealing_more_values",
            Self::SealSettings => "killed_before_sealing_settings",
            Self::WriteAuditEntry => "killed_before_writing_the_audit_entry",
            Self::SealRecord => "killed_before_sealing_the_record",
            Self::LinkPreviousFile => "killed_before_linking_the_previous_file",
            Self::RenameNextFile => "killed_before_renaming_the_next_file",
        }
    }

    /// Kills this program with SIGKILL if `MUSTER_FAULT` names this step.
    pub fn reached(self) {
        if is_named(self.fault()) {
            // No handler sees it, and nothing is written after it.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}

/// Says loudly that promises are broken, if they are.
pub fn warn() {
    if let Some(faults) = named() {
        tracing::warn!(faults, "{VARIABLE} is set: this program breaks its promises on purpose");
    }
}

fn is_named(name: &str) -> bool {
    named().is_some_and(|names| names.split(',').any(|it| it == name))
}

fn named() -> Option<String> {
    if cfg!(debug_assertions) { std::env::var(VARIABLE).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_broken_unless_it_is_asked_for() {
        assert!(!Fault::EarlyAck.is_on() && !Fault::RepeatedDelivery.is_on());
        RotationStep::ALL.iter().for_each(|step| step.reached());
    }
}
