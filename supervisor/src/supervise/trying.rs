//! A version on trial: watched until it is kept or given back.
//!
//! `current` means the version before it all the while. So whatever starts this host finds a
//! supervisor that has worked, and that counts how often the new one has begun in vain. What is
//! decided here holds at once; that it gets onto the disk is for `finishing`.

use std::time::{Duration, Instant};

use muster_protocol::ExitCode;
use muster_protocol::release::{UpdateOutcome, Version};

use super::Supervisor;
use crate::fault::Cut;
use crate::policy::End;
use crate::sentence;
use crate::update::{MAX_BOOTS, Phase, Trial};

/// Agents of a version on trial that may end before one registers.
const MAX_FAILURES: u32 = 3;
/// How often it is looked whether the agent has registered, while a version is on trial.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A trial and what this supervisor has seen of it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) trial: Trial,
    /// When the phase is over.
    until: Instant,
    failures: u32,
    /// The disk says what `trial` says.
    pub(super) is_written: bool,
    /// Nothing that an agent before this one left behind says that it has a session.
    is_believed: bool,
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
    /// trial if that is another.
    pub(super) fn resume_trial(&mut self) {
        let Some(updates) = &mut self.updating.updates else { return };
        let mut trial = match updates.trial() {
            Ok(Some(trial)) => trial,
            Ok(None) => {
                if updates.wish().is_none() {
                    updates.drop_staging();
                }
                return;
            }
            Err(error) => return self.report(&error),
        };
        Cut::TrialFound.here();
        if !trial.is_undecided() {
            self.follow(trial);
            self.finish();
            return;
        }
        let is_handed_over = self.layout.is_version(&trial.to);
        if is_handed_over && updates.current().as_ref() == Some(&trial.from) {
            // By the one that is current, which has counted.
            self.follow(trial);
            return;
        }
        let counted = updates.count_boot(&mut trial);
        let (to, is_over) = (trial.to.clone(), trial.has_begun_too_often());
        self.follow(trial);
        if let Err(error) = counted {
            self.report(&error);
            // What can't be counted is not begun again, and is not the release's fault.
            let message = format!(
                "this host began anew while {to} was tried, and could not count that: make room on the disk with the agent's programs, and ask again"
            );
            self.go_back("storage_failed", &message);
            self.decide(UpdateOutcome::Failed);
        } else if is_over {
            let message = format!(
                "this host has begun anew {MAX_BOOTS} times while it was tried, and no agent of it has registered"
            );
            self.blame("supervisor_failed", &message);
        } else {
            self.updating.begins_anew = !is_handed_over && self.layout.is_own_version();
        }
    }

    pub(super) fn follow(&mut self, trial: Trial) {
        self.updating.trial = Some(Watched {
            trial,
            until: Instant::now() + self.settings.trial_time,
            failures: 0,
            is_written: true,
            is_believed: false,
        });
    }

    /// The next agent is about to be started: only what that one says counts.
    pub(super) fn forget_session(&mut self) {
        let (Some(updates), Some(watched)) = (&self.updating.updates, &mut self.updating.trial)
        else {
            return;
        };
        let forgotten = updates.forget_session();
        watched.is_believed = forgotten.is_ok();
        if let Err(error) = forgotten {
            self.report(&error);
        }
    }

    /// Looks how the trial stands while its agent runs as process `pid`.
    pub(super) fn look_at_trial(&mut self, pid: u32) -> Option<Look> {
        if self.has_registered(pid) {
            return None;
        }
        let watched = self.updating.trial.as_ref().filter(|it| it.trial.outcome.is_none())?;
        let now = Instant::now();
        match watched.trial.phase {
            _ if now < watched.until => Some(Look::At((now + LOOK_EVERY).min(watched.until))),
            Phase::Trying => Some(Look::TimeIsUp),
            Phase::Returned => {
                // Neither of them has registered: that is not the release's fault.
                self.excuse();
                None
            }
        }
    }

    /// True if that has decided the trial just now.
    fn has_registered(&mut self, pid: u32) -> bool {
        let (Some(updates), Some(watched)) = (&self.updating.updates, &self.updating.trial) else {
            return false;
        };
        let trial = &watched.trial;
        let is_open = trial.outcome.is_none() && watched.is_believed;
        if !is_open || !updates.is_registered(pid, trial.running()) {
            return false;
        }
        Cut::Registered.here();
        self.decide(match trial.phase {
            Phase::Trying => UpdateOutcome::Installed,
            Phase::Returned => UpdateOutcome::RolledBack,
        });
        true
    }

    /// The agent, which ran as process `pid` if it ran, has ended while a version was on trial.
    /// True if that makes another version run.
    pub(super) fn fails_trial(&mut self, pid: Option<u32>, end: End) -> bool {
        if pid.is_some_and(|pid| self.has_registered(pid)) {
            return false;
        }
        let trial = self.updating.trial.as_mut().filter(|it| it.trial.outcome.is_none());
        let Some(watched) = trial else { return false };
        let code = match end {
            End::Exited(code) => ExitCode::from_code(code),
            End::Signalled(_) | End::NotStarted => None,
        };
        match (watched.trial.phase, code) {
            (Phase::Returned, Some(ExitCode::Fatal)) => {
                // The server wants neither of them.
                self.excuse();
                false
            }
            (Phase::Trying, None | Some(ExitCode::Fatal)) => {
                watched.failures += 1;
                if code.is_none() && watched.failures < MAX_FAILURES {
                    return false;
                }
                let message = sentence::trial_failed(&watched.trial.to, end, watched.failures);
                match code {
                    None => self.blame("crashed", &message),
                    // The one before shows whether the host is configured so that none can work.
                    Some(_) => self.go_back("crashed", &message),
                }
                true
            }
            // Who is asked to stop or to begin anew was asked by somebody; the time goes on.
            (Phase::Returned, _) | (Phase::Trying, Some(_)) => false,
        }
    }

    /// The version on trial is at fault: the one before runs again, and that is the verdict.
    fn blame(&mut self, code: &str, message: &str) {
        self.go_back(code, message);
        self.decide(UpdateOutcome::RolledBack);
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

    /// From now on the version before runs, whether or not that can be written down.
    fn go_back(&mut self, code: &str, message: &str) {
        let Some(watched) = &mut self.updating.trial else { return };
        self.log.error(format_args!("{message}: going back to {}", watched.trial.from));
        Cut::Failing.here();
        let trial = &mut watched.trial;
        (trial.phase, trial.boots) = (Phase::Returned, 0);
        (trial.code, trial.message) = (Some(code.to_owned()), Some(message.to_owned()));
        (watched.is_written, watched.is_believed) = (false, false);
        watched.until = Instant::now() + self.settings.trial_time;
        self.finish();
    }

    fn excuse(&mut self) {
        if let Some(watched) = &mut self.updating.trial {
            watched.trial.code = Some("server_unreachable".into());
            watched.trial.message = Some(format!(
                "neither {} nor {} could register, so that the release is not blamed; {} runs, ask for the update again",
                watched.trial.to, watched.trial.from, watched.trial.from
            ));
        }
        self.decide(UpdateOutcome::Failed);
    }

    /// How it ended; that does not change any more.
    fn decide(&mut self, outcome: UpdateOutcome) {
        if let Some(watched) = &mut self.updating.trial {
            watched.trial.outcome = Some(outcome);
            watched.is_written = false;
        }
        self.finish();
    }

    /// The version that is tried or was given back, while a trial goes on.
    pub(super) fn version_in_trial(&self) -> Option<&Version> {
        self.updating.trial.as_ref().map(|watched| watched.trial.running())
    }
}
