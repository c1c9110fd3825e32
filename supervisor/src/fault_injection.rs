//! Simulated power cuts: the program aborts at a chosen step of an update, so that tests can show that
//! a host survives a crash at every step. Only debug builds read `MUSTER_FAULT`.

const VARIABLE: &str = "MUSTER_FAULT";

/// A step of an update. The program aborts right after the named step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The release is downloaded.
    Downloaded,
    /// The downloaded release is verified.
    Verified,
    /// An existing folder of the same version is moved aside.
    MovedAside,
    /// The new version is in `versions/`.
    Placed,
    /// Its programs have passed their self-test.
    SelfTested,
    /// The trial is saved.
    TrialSaved,
    /// The supervisor is about to `exec` its successor.
    HandingOver,
    /// A supervisor has found a saved trial at its start.
    TrialResumed,
    /// A supervisor has counted its start during a trial.
    BootCounted,
    /// The agent on trial has registered.
    Registered,
    /// The outcome of the trial is saved.
    OutcomeSaved,
    /// The new version is current.
    MadeCurrent,
    /// The pinned key and floor are updated.
    PinsUpdated,
    /// The update result is written for the agent.
    ResultWritten,
    /// The saved trial is removed.
    TrialRemoved,
    /// The version on trial has failed.
    TrialFailed,
    /// The roll-back is saved.
    RolledBack,
    /// One of the two programs of the current version is replaced.
    HalfRepaired,
    /// Both programs of the current version are replaced.
    Repaired,
}

impl CrashPoint {
    /// Every step.
    pub const ALL: [Self; 19] = [
        Self::Downloaded,
        Self::Verified,
        Self::MovedAside,
        Self::Placed,
        Self::SelfTested,
        Self::TrialSaved,
        Self::HandingOver,
        Self::TrialResumed,
        Self::BootCounted,
        Self::Registered,
        Self::OutcomeSaved,
        Self::MadeCurrent,
        Self::PinsUpdated,
        Self::ResultWritten,
        Self::TrialRemoved,
        Self::TrialFailed,
        Self::RolledBack,
        Self::HalfRepaired,
        Self::Repaired,
    ];

    /// The step's name in `MUSTER_FAULT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Downloaded => "crash_downloaded",
            Self::Verified => "crash_verified",
            Self::MovedAside => "crash_moved_aside",
            Self::Placed => "crash_placed",
            Self::SelfTested => "crash_self_tested",
            Self::TrialSaved => "crash_trial_saved",
            Self::HandingOver => "crash_handing_over",
            Self::TrialResumed => "crash_trial_resumed",
            Self::BootCounted => "crash_boot_counted",
            Self::Registered => "crash_registered",
            Self::OutcomeSaved => "crash_outcome_saved",
            Self::MadeCurrent => "crash_made_current",
            Self::PinsUpdated => "crash_pins_updated",
            Self::ResultWritten => "crash_result_written",
            Self::TrialRemoved => "crash_trial_removed",
            Self::TrialFailed => "crash_trial_failed",
            Self::RolledBack => "crash_rolled_back",
            Self::HalfRepaired => "crash_half_repaired",
            Self::Repaired => "crash_repaired",
        }
    }

    /// Aborts the process if `MUSTER_FAULT` lists this step.
    pub fn trigger(self) {
        if cfg!(debug_assertions)
            && std::env::var(VARIABLE)
                .is_ok_and(|names| names.split(',').any(|name| name == self.name()))
        {
            std::process::abort();
        }
    }
}
