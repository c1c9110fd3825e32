//! Steps of an update at which this program can be made to die as by a power cut, so that the tests
//! can show that a host survives each. Only debug builds look for `MUSTER_FAULT`.

const VARIABLE: &str = "MUSTER_FAULT";

/// A step of an update; the cut comes right after what it is named for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The download is there.
    Fetched,
    /// It is what it should be.
    Judged,
    /// What lay in its place is out of the way.
    SetAside,
    /// It lies among the versions.
    Placed,
    /// Its programs start on this host.
    SelfTested,
    /// The trial is written down.
    TrialNoted,
    /// The program that takes over is about to be started.
    HandingOver,
    /// A supervisor has found a trial.
    TrialFound,
    /// A supervisor that was started anew has counted itself.
    BootCounted,
    /// The agent on trial has registered.
    Registered,
    /// It is written down how the trial has ended.
    Decided,
    /// The new version is current.
    Kept,
    /// Key and floor are remembered.
    Remembered,
    /// The verdict is written down.
    Told,
    /// The trial's note is gone.
    TrialForgotten,
    /// The version on trial has failed.
    Failing,
    /// It is written down that the version before it is back.
    GivenBack,
    /// One of the two programs of a version that is fetched afresh has been replaced.
    HalfRepaired,
    /// Both have.
    Repaired,
}

impl Cut {
    /// Every step there is.
    pub const ALL: [Self; 19] = [
        Self::Fetched,
        Self::Judged,
        Self::SetAside,
        Self::Placed,
        Self::SelfTested,
        Self::TrialNoted,
        Self::HandingOver,
        Self::TrialFound,
        Self::BootCounted,
        Self::Registered,
        Self::Decided,
        Self::Kept,
        Self::Remembered,
        Self::Told,
        Self::TrialForgotten,
        Self::Failing,
        Self::GivenBack,
        Self::HalfRepaired,
        Self::Repaired,
    ];

    /// What `MUSTER_FAULT` names it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetched => "cut_fetched",
            Self::Judged => "cut_judged",
            Self::SetAside => "cut_set_aside",
            Self::Placed => "cut_placed",
            Self::SelfTested => "cut_self_tested",
            Self::TrialNoted => "cut_trial_noted",
            Self::HandingOver => "cut_handing_over",
            Self::TrialFound => "cut_trial_found",
            Self::BootCounted => "cut_boot_counted",
            Self::Registered => "cut_registered",
            Self::Decided => "cut_decided",
            Self::Kept => "cut_kept",
            Self::Remembered => "cut_remembered",
            Self::Told => "cut_told",
            Self::TrialForgotten => "cut_trial_forgotten",
            Self::Failing => "cut_failing",
            Self::GivenBack => "cut_given_back",
            Self::HalfRepaired => "cut_half_repaired",
            Self::Repaired => "cut_repaired",
        }
    }

    /// Ends the process here, if it was told to.
    pub fn here(self) {
        if cfg!(debug_assertions)
            && std::env::var(VARIABLE)
                .is_ok_and(|names| names.split(',').any(|name| name == self.name()))
        {
            std::process::abort();
        }
    }
}
