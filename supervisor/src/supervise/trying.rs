//! A version on trial: watched until it is kept or given back.
//!
//! `current` means the version before it all the while. So whatever starts this host finds a
//! supervisor that has worked, and that counts how often the new one has begun in vain.

use std::time::{Duration, Instant};

use muster_protocol::ExitCode;
use muster_protocol::release::{UpdateOutcome, Version};

use super::Supervisor;
use crate::fault::Cut;
use crate::log::chain;
use crate::policy::End;
use crate::sentence;
use crate::update::{Phase, Trial};

/// Times that a host may begin anew while a version is on trial.
const MAX_BOOTS: u32 = 3;
/// Agents of a version on trial that may end before one registers.
const MAX_FAILURES: u32 = 3;
/// When it is tried again to write down how a trial ended.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// How often it is looked whether the agent has registered, while a version is on trial.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A trial and what this supervisor has seen of it.
#[derive(Debug)]
pub(super) struct Watched {
    trial: Trial,
    /// When the phase is over.
    until: Instant,
    failures: u32,
}

impl Watched {
    /// The version that is tried, until it is given back.
    pub(super) fn tried(&self) -> Option<&Version> {
        (self.trial.phase == Phase::Trying).then_some(&self.trial.to)
    }
}

/// What a look at a trial has shown.
pub(super) enum Look {
    /// Look again then.
    At(Instant),
    /// The version on trial has had its time.
    TimeIsUp,
}

impl Supervisor {
    /// Takes up the trial that a supervisor before this one has begun, and hands over to the one on
    /// trial if that is another. Comes first: whatever goes wrong after it, the beginning was counted.
    pub(super) fn resume_trial(&mut self) {
        let Some(updates) = &self.updating.updates else { return };
        let Some(mut trial) = updates.trial() else {
            self.report(updates.forget_trial());
            return;
        };
        Cut::TrialFound.here();
        let is_trying = trial.phase == Phase::Trying;
        // It was handed over to by the one that is current, which has counted.
        let is_handed_over = is_trying && self.layout.is_version(&trial.to);
        if is_handed_over && updates.current().as_ref() == Some(&trial.from) {
            self.follow(trial);
            return;
        }
        let counted = updates.count_boot(&mut trial);
        Cut::BootCounted.here();
        // What can't be counted is not begun again.
        let is_failing = is_trying && (trial.boots >= MAX_BOOTS || counted.is_err());
        self.report(counted);
        self.follow(trial);
        if is_trying && !is_failing {
            self.updating.begins_anew = !is_handed_over && self.layout.is_own_version();
        } else if is_failing {
            let message = format!(
                "this host has begun anew {MAX_BOOTS} times while it was tried, and no agent of it has registered"
            );
            self.blame("supervisor_failed", &message);
        }
    }

    pub(super) fn follow(&mut self, trial: Trial) {
        let until = Instant::now() + self.settings.trial_time;
        self.updating.trial = Some(Watched { trial, until, failures: 0 });
    }

    /// Looks how the trial stands while its agent runs as process `pid`.
    pub(super) fn look_at_trial(&mut self, pid: u32) -> Option<Look> {
        let (updates, watched) = (self.updating.updates.as_ref()?, self.updating.trial.as_ref()?);
        let (now, phase) = (Instant::now(), watched.trial.phase);
        if updates.is_registered(pid) {
            Cut::Registered.here();
            let outcome = match phase {
                Phase::Trying => UpdateOutcome::Installed,
                Phase::Returned => UpdateOutcome::RolledBack,
            };
            return match self.conclude(outcome) {
                true => None,
                false => Some(Look::At(now + TELL_AGAIN)),
            };
        }
        match phase {
            _ if now < watched.until => Some(Look::At((now + LOOK_EVERY).min(watched.until))),
            Phase::Trying => Some(Look::TimeIsUp),
            Phase::Returned => {
                // Neither of them has registered: that is not the release's fault.
                (!self.excuse()).then(|| Look::At(now + TELL_AGAIN))
            }
        }
    }

    /// The agent of a version on trial has ended. True if that was the end of the trial.
    pub(super) fn fails_trial(&mut self, end: End) -> bool {
        let Some(watched) = &mut self.updating.trial else { return false };
        if watched.trial.phase != Phase::Trying || end == End::Exited(ExitCode::Stop.code()) {
            return false;
        }
        watched.failures += 1;
        let is_hopeless = end == End::Exited(ExitCode::Fatal.code());
        if !is_hopeless && watched.failures < MAX_FAILURES {
            return false;
        }
        let message = sentence::trial_failed(&watched.trial.to, end, watched.failures);
        self.blame("crashed", &message);
        true
    }

    /// The version on trial is at fault: the one before runs again, and that is the verdict.
    fn blame(&mut self, code: &str, message: &str) {
        if self.go_back(code, message) {
            self.conclude(UpdateOutcome::RolledBack);
        }
    }

    /// The version on trial has not registered in time. Whether the one before can, tells whose
    /// fault it is.
    pub(super) fn give_up_trial(&mut self) {
        let Some(watched) = &self.updating.trial else { return };
        let seconds = self.settings.trial_time.as_secs();
        let message = format!(
            "{} did not register within {seconds} s; {} runs again",
            watched.trial.to, watched.trial.from
        );
        self.go_back("not_registered", &message);
    }

    fn go_back(&mut self, code: &str, message: &str) -> bool {
        let (Some(updates), Some(watched)) = (&self.updating.updates, &mut self.updating.trial)
        else {
            return false;
        };
        self.log.error(format_args!("{message}: going back to {}", watched.trial.from));
        Cut::Failing.here();
        if let Err(error) = updates.go_back(&mut watched.trial, code, message) {
            self.log.error(format_args!("failed to {}", chain(&error)));
            return false;
        }
        Cut::GivenBack.here();
        watched.until = Instant::now() + self.settings.trial_time;
        let from = &watched.trial.from;
        self.updating.begins_anew = self.layout.is_own_version() && !self.layout.is_version(from);
        true
    }

    fn excuse(&mut self) -> bool {
        if let Some(watched) = &mut self.updating.trial {
            watched.trial.code = Some("server_away".into());
            watched.trial.message = Some(format!(
                "neither {} nor {} could register, so that the release is not blamed; {} runs, ask for the update again",
                watched.trial.to, watched.trial.from, watched.trial.from
            ));
        }
        self.conclude(UpdateOutcome::Failed)
    }

    /// Writes down how it ended. False if that failed: the trial goes on until it can be.
    fn conclude(&mut self, outcome: UpdateOutcome) -> bool {
        let (Some(updates), Some(watched)) = (&self.updating.updates, &self.updating.trial) else {
            return true;
        };
        if let Err(error) = updates.conclude(&watched.trial, outcome) {
            self.log.error(format_args!("failed to {}", chain(&error)));
            return false;
        }
        let Trial { to, .. } = &watched.trial;
        self.log.info(format_args!("update to {to}: {}", outcome.as_str()));
        self.updating.trial = None;
        true
    }
}
