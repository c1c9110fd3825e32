//! The watch over an agent that runs: its end, requests, and how its version does on trial.

use std::time::Instant;

use super::trying::Look;
use super::{SuperviseError, Supervisor};
use crate::platform::Request;
use crate::policy::End;

/// What a watch over the agent ended with.
pub(super) enum Watch {
    Ended(End),
    StopAsked(Request),
    /// The version on trial has not registered in time; its agent was ended.
    TrialOver,
}

impl Supervisor {
    /// Waits for the end of the agent, passing requests on to it.
    pub(super) fn watch(&mut self, pid: u32) -> Result<Watch, SuperviseError> {
        let mut stop_asked = None;
        let mut is_trial_over = false;
        let mut kill_at = None;
        loop {
            while let Some(request) = self.host.take_request() {
                self.log.info(format_args!("passing {} on to the agent", request.name()));
                self.host.pass_on(request);
                if self.stops(request) && stop_asked.is_none() {
                    stop_asked = Some(request);
                    kill_at = Some(Instant::now() + self.settings.stop_grace);
                    self.board.stopping();
                }
            }
            if let Some(end) = self.host.reap() {
                return Ok(match stop_asked {
                    None if is_trial_over => {
                        self.board.ended(end);
                        Watch::TrialOver
                    }
                    None => Watch::Ended(end),
                    Some(request) => {
                        self.board.ended(end);
                        Watch::StopAsked(request)
                    }
                });
            }
            let mut look_at = None;
            if stop_asked.is_none() && !is_trial_over {
                match self.look_at_trial(pid) {
                    None => {}
                    Some(Look::At(at)) => look_at = Some(at),
                    Some(Look::TimeIsUp) => {
                        is_trial_over = true;
                        self.host.pass_on(Request::Terminate);
                        kill_at = Some(Instant::now() + self.settings.stop_grace);
                    }
                }
            }
            if kill_at.is_some_and(|at| at <= Instant::now()) {
                kill_at = None;
                self.log.warn("the agent did not stop in time: killing it; its jobs go on");
                self.host.kill_agent();
            }
            self.rest([kill_at, look_at].into_iter().flatten().min())?;
        }
    }
}
