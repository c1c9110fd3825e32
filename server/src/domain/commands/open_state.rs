//! What people read about work that has not ended: why, what happens next and when, and what they can
//! do. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::command_state::CommandState;
use super::job_state::JobState;
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;

/// An open execution, as far as the sentence about it needs.
#[derive(Debug, Clone)]
pub struct OpenExecution<'a> {
    pub state: CommandState,
    pub agent_name: &'a str,
    /// When the agent was last seen; `None` while it is connected.
    pub offline_since: Option<Timestamp>,
    /// It waits for another person's approval until then.
    pub approval_until: Option<Timestamp>,
    pub is_held: bool,
    /// Wave of the rollout, counted from 1.
    pub wave: Option<i32>,
    pub expires_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub timeout_ms: u64,
    pub lost_after_ms: u64,
    pub cancel_requested_at: Option<Timestamp>,
    /// Of an execution that is run again by itself, counted from 1.
    pub attempt: i32,
    /// When this attempt may be sent.
    pub not_before: Option<Timestamp>,
    /// A lock that it waits for, and the execution that holds it.
    pub lock: Option<(&'a str, CommandId)>,
    /// The step that runs, as far as its agent has reported.
    pub step: Option<CurrentStep<'a>>,
}

/// The step of an execution that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentStep<'a> {
    /// Counted from 1.
    pub number: usize,
    pub count: usize,
    pub name: Option<&'a str>,
}

impl fmt::Display for CurrentStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} of {}", self.number, self.count)?;
        self.name.map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

impl OpenExecution<'_> {
    /// The sentences; `None` once it has ended.
    pub fn explanation(&self) -> Option<String> {
        let name = self.agent_name;
        if self.state.is_terminal() {
            return None;
        }
        if let (Some(at), true) = (self.cancel_requested_at, self.state != CommandState::Queued) {
            return Some(self.cancelling(at));
        }
        Some(match (self.state, self.offline_since) {
            (CommandState::Queued, _) => self.queued(),
            (CommandState::Delivered, None) => format!(
                "It was sent to {name}, which has not reported its start. It starts when the host has \
                 a free slot. You can cancel it."
            ),
            (CommandState::Delivered, Some(since)) => format!(
                "It was sent to {name}, which is offline since {since}. Whether it ran is known when the \
                 agent reconnects; after {} it is lost. You can cancel it.",
                since.plus_ms(self.lost_after_ms)
            ),
            (_, None) => match self.started_at {
                Some(at) => format!(
                    "It runs on {name} since {at}{}. The host ends it at {} at the latest. You can cancel it.",
                    self.step.map(|step| format!(", now {step}")).unwrap_or_default(),
                    at.plus_ms(self.timeout_ms)
                ),
                None => format!("It runs on {name}. You can cancel it."),
            },
            (_, Some(since)) => format!(
                "It started on {name}, which is offline since {since}, and continues there{}. Its result \
                 arrives when the agent reconnects; after {} it is lost. You can cancel it.",
                self.step.map(|step| format!(", with {step} or a later one")).unwrap_or_default(),
                since.plus_ms(self.lost_after_ms)
            ),
        })
    }

    fn queued(&self) -> String {
        let name = self.agent_name;
        match (self.approval_until, self.is_held, self.wave, self.offline_since) {
            (Some(until), ..) => format!(
                "It waits for another person's approval, and expires at {until} without one. Another person \
                 can approve or refuse it; you can cancel it."
            ),
            (_, true, Some(wave), _) => format!(
                "It waits for wave {wave} of its rollout, which starts when the waves before it have \
                 ended. Resume the job if it is paused or halted, or cancel it."
            ),
            (_, true, None, _) => {
                "It is held until its rollout starts it. Resume or cancel the job.".to_owned()
            }
            (.., Some(since)) => format!(
                "{name} is offline since {since}. It starts when the agent connects, and expires at {} \
                 otherwise. Start the agent on its host, or cancel it.",
                self.expires_at
            ),
            _ => self.queued_online(),
        }
    }

    fn queued_online(&self) -> String {
        let (name, expires_at) = (self.agent_name, self.expires_at);
        match (self.lock, self.not_before) {
            (Some((lock, holder)), _) => format!(
                "It waits for the lock `{lock}` on {name}, which execution {holder} holds. It is sent when \
                 that one has ended, and expires at {expires_at} otherwise. You can cancel either."
            ),
            (None, Some(at)) => format!(
                "It is attempt {}, and is sent at {at} or when {name} has a free slot after that. It \
                 expires at {expires_at} otherwise. You can cancel it.",
                self.attempt
            ),
            (None, None) => format!(
                "{name} is connected and has no free slot. It is sent when one of its executions ends, and \
                 expires at {expires_at} otherwise. Cancel it or one of the others."
            ),
        }
    }

    fn cancelling(&self, requested_at: Timestamp) -> String {
        let name = self.agent_name;
        match self.offline_since {
            None => format!(
                "Its cancellation was requested at {requested_at}. {name} ends it and reports the result."
            ),
            Some(since) => format!(
                "Its cancellation was requested at {requested_at}. {name} is offline since {since}, and \
                 ends it when it reconnects; after {} it is lost.",
                since.plus_ms(self.lost_after_ms)
            ),
        }
    }
}

/// The sentences about an open job; `None` once it has ended.
pub fn job_explanation(
    state: JobState,
    counts: &BTreeMap<&'static str, u64>,
    halt_reason: Option<&str>,
    approval_until: Option<Timestamp>,
) -> Option<String> {
    let count = |name: CommandState| counts.get(name.as_str()).copied().unwrap_or_default();
    let (queued, all) = (count(CommandState::Queued), counts.values().sum::<u64>());
    let active = count(CommandState::Delivered) + count(CommandState::Running);
    let ended = all - queued - active;
    let progress = format!("Executions: {ended} ended, {active} on their hosts, {queued} queued.");
    match state {
        JobState::Running => Some(format!(
            "{progress} The job ends when all have ended; each execution says what it waits for. You can \
             cancel the job."
        )),
        JobState::AwaitingApproval => Some(match approval_until {
            Some(until) => format!(
                "It waits for another person's approval, and expires at {until} without one. Another person \
                 can approve or refuse it; you can cancel it."
            ),
            None => "It waits for another person's approval. You can cancel it.".to_owned(),
        }),
        JobState::Paused => Some(format!(
            "{progress} A person paused it: no further execution starts until a person resumes it. Resume, abort or \
             cancel it."
        )),
        JobState::Halted => Some(format!(
            "{progress} It halted: {}. No further execution starts until a person resumes it. Resume, abort or cancel it.",
            halt_reason.unwrap_or("the reason is unknown").trim_end_matches('.')
        )),
        JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Aborted => None,
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    fn open(state: CommandState) -> OpenExecution<'static> {
        OpenExecution {
            state,
            agent_name: "web-1",
            offline_since: None,
            approval_until: None,
            is_held: false,
            wave: None,
            expires_at: Timestamp(86_400_000),
            started_at: None,
            timeout_ms: 3_600_000,
            lost_after_ms: 60_000,
            cancel_requested_at: None,
            attempt: 1,
            not_before: None,
            lock: None,
            step: None,
        }
    }

    #[test]
    fn a_running_execution_names_the_step_that_its_agent_has_reported() {
        let step = Some(CurrentStep { number: 2, count: 3, name: Some("Release") });
        let running =
            OpenExecution { started_at: Some(Timestamp(0)), step, ..open(CommandState::Running) };
        let sentence = running.explanation().expect("open");
        assert!(
            sentence.contains("since 1970-01-01T00:00:00.000Z, now step 2 of 3 (Release)."),
            "{sentence}"
        );
        let away = OpenExecution { offline_since: Some(Timestamp(0)), ..running };
        let sentence = away.explanation().expect("open");
        assert!(
            sentence.contains("continues there, with step 2 of 3 (Release) or a later one."),
            "{sentence}"
        );
    }

    #[test]
    fn every_open_state_is_explained_and_no_ended_one() {
        for state in CommandState::iter() {
            let online = open(state).explanation();
            let offline = OpenExecution { offline_since: Some(Timestamp(0)), ..open(state) };
            assert_eq!(online.is_none(), state.is_terminal(), "{state:?}");
            assert_eq!(offline.explanation().is_none(), state.is_terminal(), "{state:?}");
        }
        for state in JobState::iter() {
            let is_open = matches!(
                state,
                JobState::Running
                    | JobState::AwaitingApproval
                    | JobState::Paused
                    | JobState::Halted
            );
            let explained = job_explanation(state, &BTreeMap::new(), None, None);
            assert_eq!(explained.is_some(), is_open, "{state:?}");
        }
    }

    #[test]
    fn reason_why_it_is_queued_is_the_first_that_holds() {
        let queued = open(CommandState::Queued);
        assert!(queued.queued().contains("no free slot"));
        let offline = OpenExecution { offline_since: Some(Timestamp(0)), ..queued.clone() };
        assert!(offline.queued().starts_with("web-1 is offline since 1970-01-01T00:00:00.000Z."));
        assert!(offline.queued().contains("expires at 1970-01-02T00:00:00.000Z"));
        let again = OpenExecution { attempt: 2, not_before: Some(Timestamp(0)), ..queued.clone() };
        assert!(
            again.queued().starts_with("It is attempt 2, and is sent at 1970-01-01T00:00:00.000Z")
        );
        let holder = CommandId::new();
        let locked = OpenExecution { lock: Some(("apt", holder)), ..again };
        let names =
            format!("It waits for the lock `apt` on web-1, which execution {holder} holds.");
        assert!(locked.queued().starts_with(&names));
        let held = OpenExecution { is_held: true, wave: Some(3), ..offline };
        assert!(held.queued().starts_with("It waits for wave 3"));
        let waiting = OpenExecution { approval_until: Some(Timestamp(0)), ..held };
        assert!(waiting.queued().starts_with("It waits for another person's approval"));
    }

    #[test]
    fn running_execution_of_an_offline_agent_names_when_it_is_lost() {
        let away = OpenExecution {
            offline_since: Some(Timestamp(0)),
            started_at: Some(Timestamp(0)),
            ..open(CommandState::Running)
        };
        let sentence = away.explanation().expect("open");
        assert!(sentence.contains("after 1970-01-01T00:01:00.000Z it is lost"), "{sentence}");
    }
}
