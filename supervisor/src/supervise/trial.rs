//! A version on trial: watched until it is kept or rolled back.
//!
//! `current` keeps pointing to the previous version during the trial. Any start of this host
//! therefore runs a supervisor that is known to work, and that supervisor counts how often the new
//! one failed to start. Decisions made here take effect at once; `pending_writes` saves them.

use std::time::{Duration, Instant};

use muster_protocol::ExitCode;
use muster_protocol::release::{UpdateOutcome, Version};

use super::state::{ActiveTrial, TrialCheck};
use super::supervisor::Supervisor;
use crate::fault_injection::CrashPoint;
use crate::policy::ProcessExit;
use crate::reasons;
use crate::update::{MAX_BOOTS, Phase, TrialRecord};

/// A version fails its trial after this many agents ended without registering.
const MAX_FAILURES: u32 = 3;
/// How often the agent's registration is checked during a trial.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Resumes a trial that an earlier supervisor started, and hands over to the supervisor on
    /// trial if that is another one.
    pub(super) fn resume_trial(&mut self) {
        let Some(updates) = &mut self.update_state.updates else { return };
        let mut trial = match updates.trial() {
            Ok(Some(trial)) => trial,
            Ok(None) => {
                if updates.open_request().is_none() {
                    updates.drop_staging();
                }
                return;
            }
            Err(error) => return self.log_file_error(&error),
        };
        CrashPoint::TrialResumed.trigger();
        if !trial.is_undecided() {
            self.track_trial(trial);
            self.flush();
            return;
        }
        let is_handed_over = self.layout.is_version(&trial.to);
        if is_handed_over && updates.current().as_ref() == Some(&trial.from) {
            // The current supervisor handed over and has counted this start.
            self.track_trial(trial);
            return;
        }
        let counted = updates.count_boot(&mut trial);
        let (to, is_over) = (trial.to.clone(), trial.has_exceeded_boots());
        self.track_trial(trial);
        if let Err(error) = counted {
            self.log_file_error(&error);
            // A start that can't be counted must not be repeated. The release is not at fault.
            let message = format!(
                "this host restarted during the trial of {to} and could not count the restart; free space on the disk that holds the agent's programs, then request the update again"
            );
            self.roll_back("storage_failed", &message);
            self.set_outcome(UpdateOutcome::Failed);
        } else if is_over {
            let message = format!(
                "this host started {MAX_BOOTS} times during the trial of {to}, and no agent of that version registered"
            );
            self.mark_failed("supervisor_failed", &message);
        } else {
            self.update_state.should_exec = !is_handed_over && self.layout.is_own_version();
        }
    }

    pub(super) fn track_trial(&mut self, trial: TrialRecord) {
        self.update_state.trial = Some(ActiveTrial {
            trial,
            deadline: Instant::now() + self.settings.trial_time,
            failures: 0,
            is_saved: true,
            is_status_current: false,
        });
    }

    /// Removes the previous agent's status file, so that only the next agent can prove a
    /// registration.
    pub(super) fn discard_agent_status(&mut self) {
        let (Some(updates), Some(active)) =
            (&self.update_state.updates, &mut self.update_state.trial)
        else {
            return;
        };
        let removed = updates.discard_agent_status();
        active.is_status_current = removed.is_ok();
        if let Err(error) = removed {
            self.log_file_error(&error);
        }
    }

    /// Checks the trial while its agent runs as process `pid`. `None` if the trial is decided.
    pub(super) fn check_trial(&mut self, pid: u32) -> Option<TrialCheck> {
        if self.check_registration(pid) {
            return None;
        }
        let active = self.update_state.trial.as_ref().filter(|it| it.trial.outcome.is_none())?;
        let now = Instant::now();
        match active.trial.phase {
            _ if now < active.deadline => {
                Some(TrialCheck::CheckAt((now + CHECK_INTERVAL).min(active.deadline)))
            }
            Phase::OnTrial => Some(TrialCheck::TimedOut),
            Phase::RolledBack => {
                // Neither version has registered, so the release is not at fault.
                self.mark_inconclusive();
                None
            }
        }
    }

    /// True if the agent has registered and that has just decided the trial.
    fn check_registration(&mut self, pid: u32) -> bool {
        let (Some(updates), Some(active)) = (&self.update_state.updates, &self.update_state.trial)
        else {
            return false;
        };
        let trial = &active.trial;
        let is_open = trial.outcome.is_none() && active.is_status_current;
        if !is_open || !updates.is_registered(pid, trial.running()) {
            return false;
        }
        CrashPoint::Registered.trigger();
        self.set_outcome(match trial.phase {
            Phase::OnTrial => UpdateOutcome::Installed,
            Phase::RolledBack => UpdateOutcome::RolledBack,
        });
        true
    }

    /// Handles the end of an agent during a trial; `pid` is its process, if it started. True if
    /// another version must run next.
    pub(super) fn fail_trial(&mut self, pid: Option<u32>, end: ProcessExit) -> bool {
        if pid.is_some_and(|pid| self.check_registration(pid)) {
            return false;
        }
        let trial = self.update_state.trial.as_mut().filter(|it| it.trial.outcome.is_none());
        let Some(active) = trial else { return false };
        let code = match end {
            ProcessExit::Exited(code) => ExitCode::from_code(code),
            ProcessExit::Signalled(_) | ProcessExit::NotStarted => None,
        };
        match (active.trial.phase, code) {
            (Phase::RolledBack, Some(ExitCode::Fatal)) => {
                // The server accepts neither version.
                self.mark_inconclusive();
                false
            }
            (Phase::OnTrial, None | Some(ExitCode::Fatal)) => {
                active.failures += 1;
                if code.is_none() && active.failures < MAX_FAILURES {
                    return false;
                }
                let message = reasons::trial_failed(&active.trial.to, end, active.failures);
                match code {
                    None => self.mark_failed("crashed", &message),
                    // The previous version shows whether the configuration is at fault.
                    Some(_) => self.roll_back("crashed", &message),
                }
                true
            }
            // A requested stop or restart does not count as a failure; the deadline stays.
            (Phase::RolledBack, _) | (Phase::OnTrial, Some(_)) => false,
        }
    }

    /// The version on trial is at fault: rolls back and records that outcome.
    fn mark_failed(&mut self, code: &str, message: &str) {
        self.roll_back(code, message);
        self.set_outcome(UpdateOutcome::RolledBack);
    }

    /// The version on trial did not register in time. Whether the previous version can register
    /// decides if the release is at fault.
    pub(super) fn time_out_trial(&mut self) {
        let Some(active) = &self.update_state.trial else { return };
        let seconds = self.settings.trial_time.as_secs();
        let message = format!(
            "{} did not register within {seconds} s; {} runs again",
            active.trial.to, active.trial.from
        );
        self.roll_back("not_registered", &message);
    }

    /// Runs the previous version from now on, even if that can't be saved.
    fn roll_back(&mut self, code: &str, message: &str) {
        let Some(active) = &mut self.update_state.trial else { return };
        self.log.error(format_args!("{message}; rolling back to {}", active.trial.from));
        CrashPoint::TrialFailed.trigger();
        let trial = &mut active.trial;
        (trial.phase, trial.boots) = (Phase::RolledBack, 0);
        (trial.code, trial.message) = (Some(code.to_owned()), Some(message.to_owned()));
        (active.is_saved, active.is_status_current) = (false, false);
        active.deadline = Instant::now() + self.settings.trial_time;
        self.flush();
    }

    fn mark_inconclusive(&mut self) {
        if let Some(active) = &mut self.update_state.trial {
            active.trial.code = Some("server_unreachable".into());
            active.trial.message = Some(format!(
                "neither {} nor {} could register, so the release is not at fault; {} runs; request the update again",
                active.trial.to, active.trial.from, active.trial.from
            ));
        }
        self.set_outcome(UpdateOutcome::Failed);
    }

    /// Sets the outcome of the trial, which is final.
    fn set_outcome(&mut self, outcome: UpdateOutcome) {
        if let Some(active) = &mut self.update_state.trial {
            active.trial.outcome = Some(outcome);
            active.is_saved = false;
        }
        self.flush();
    }

    /// The version that must run while a trial is active.
    pub(super) fn trial_version(&self) -> Option<&Version> {
        self.update_state.trial.as_ref().map(|active| active.trial.running())
    }
}
