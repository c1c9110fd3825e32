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

/// Why an execution has not ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize, utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OpenReason {
    /// Another person has not approved it.
    WaitsForApproval,
    /// The wave of its rollout has not started.
    WaitsForWave,
    /// Its rollout has not started it.
    HeldByRollout,
    /// It is queued, and the agent is offline.
    AgentOffline,
    /// Another execution has the lock on the agent.
    WaitsForLock,
    /// It is run again, and not before an instant.
    WaitsForRetry,
    /// The agent is connected and runs as much as it may.
    NoFreeSlot,
    /// It was sent, and the agent has not reported its start.
    Sent,
    /// It was sent, and the agent is offline.
    SentAgentOffline,
    Running,
    /// It started, and the agent is offline.
    RunningAgentOffline,
    /// Its cancellation was requested, and the agent has not reported its end.
    Cancelling,
    /// Its cancellation was requested, and the agent is offline.
    CancellingAgentOffline,
}

impl OpenExecution<'_> {
    /// Why it has not ended: of all reasons the first that holds; `None` once it has ended.
    pub fn reason(&self) -> Option<OpenReason> {
        let is_offline = self.offline_since.is_some();
        let of = |online, offline| if is_offline { offline } else { online };
        if self.state.is_terminal() {
            return None;
        }
        if self.cancel_requested_at.is_some() && self.state != CommandState::Queued {
            return Some(of(OpenReason::Cancelling, OpenReason::CancellingAgentOffline));
        }
        Some(match self.state {
            CommandState::Queued => self.queued(),
            CommandState::Delivered => of(OpenReason::Sent, OpenReason::SentAgentOffline),
            _ => of(OpenReason::Running, OpenReason::RunningAgentOffline),
        })
    }

    fn queued(&self) -> OpenReason {
        match (self.approval_until, self.is_held, self.wave, self.offline_since) {
            (Some(_), ..) => OpenReason::WaitsForApproval,
            (_, true, Some(_), _) => OpenReason::WaitsForWave,
            (_, true, None, _) => OpenReason::HeldByRollout,
            (.., Some(_)) => OpenReason::AgentOffline,
            _ if self.lock.is_some() => OpenReason::WaitsForLock,
            _ if self.not_before.is_some() => OpenReason::WaitsForRetry,
            _ => OpenReason::NoFreeSlot,
        }
    }

    /// When it is lost if its agent stays offline; `None` while the agent is connected, or before it was sent.
    pub fn lost_at(&self) -> Option<Timestamp> {
        let is_sent = self.state != CommandState::Queued && !self.state.is_terminal();
        self.offline_since.filter(|_| is_sent).map(|since| since.plus_ms(self.lost_after_ms))
    }

    /// The sentences; `None` once it has ended.
    pub fn explanation(&self) -> Option<String> {
        let (name, expires_at) = (self.agent_name, self.expires_at);
        let instant = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        let (since, lost_at) = (instant(self.offline_since), instant(self.lost_at()));
        let requested_at = instant(self.cancel_requested_at);
        Some(match self.reason()? {
            OpenReason::WaitsForApproval => format!(
                "It waits for another person's approval, and expires at {} without one. Another person \
                 can approve or refuse it; you can cancel it.",
                instant(self.approval_until)
            ),
            OpenReason::WaitsForWave => format!(
                "It waits for wave {} of its rollout, which starts when the waves before it have \
                 ended. Resume the job if it is paused or halted, or cancel it.",
                self.wave.unwrap_or_default()
            ),
            OpenReason::HeldByRollout => {
                "It is held until its rollout starts it. Resume or cancel the job.".to_owned()
            }
            OpenReason::AgentOffline => format!(
                "{name} is offline since {since}. It starts when the agent connects, and expires at \
                 {expires_at} otherwise. Start the agent on its host, or cancel it."
            ),
            OpenReason::WaitsForLock => {
                let (lock, holder) = self.lock?;
                format!(
                    "It waits for the lock `{lock}` on {name}, which execution {holder} holds. It is sent \
                     when that one has ended, and expires at {expires_at} otherwise. You can cancel either."
                )
            }
            OpenReason::WaitsForRetry => format!(
                "It is attempt {}, and is sent at {} or when {name} has a free slot after that. It \
                 expires at {expires_at} otherwise. You can cancel it.",
                self.attempt,
                instant(self.not_before)
            ),
            OpenReason::NoFreeSlot => format!(
                "{name} is connected and has no free slot. It is sent when one of its executions ends, and \
                 expires at {expires_at} otherwise. Cancel it or one of the others."
            ),
            OpenReason::Sent => format!(
                "It was sent to {name}, which has not reported its start. It starts when the host has \
                 a free slot. You can cancel it."
            ),
            OpenReason::SentAgentOffline => format!(
                "It was sent to {name}, which is offline since {since}. Whether it ran is known when the \
                 agent reconnects; after {lost_at} it is lost. You can cancel it."
            ),
            OpenReason::Running => match self.started_at {
                Some(at) => format!(
                    "It runs on {name} since {at}{}. The host ends it at {} at the latest. You can cancel it.",
                    self.step.map(|step| format!(", now {step}")).unwrap_or_default(),
                    at.plus_ms(self.timeout_ms)
                ),
                None => format!("It runs on {name}. You can cancel it."),
            },
            OpenReason::RunningAgentOffline => format!(
                "It started on {name}, which is offline since {since}, and continues there{}. Its result \
                 arrives when the agent reconnects; after {lost_at} it is lost. You can cancel it.",
                self.step.map(|step| format!(", with {step} or a later one")).unwrap_or_default()
            ),
            OpenReason::Cancelling => format!(
                "Its cancellation was requested at {requested_at}. {name} ends it and reports the result."
            ),
            OpenReason::CancellingAgentOffline => format!(
                "Its cancellation was requested at {requested_at}. {name} is offline since {since}, and \
                 ends it when it reconnects; after {lost_at} it is lost."
            ),
        })
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
            halt_reason
                .unwrap_or("the reason is unknown")
                .trim_start_matches("Halted: ")
                .trim_end_matches('.')
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
            assert_eq!(open(state).reason().is_none(), state.is_terminal(), "{state:?}");
            let is_sent = matches!(state, CommandState::Delivered | CommandState::Running);
            assert_eq!(offline.lost_at().is_some(), is_sent, "{state:?}");
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
        let sentence = |of: &OpenExecution<'_>| of.explanation().expect("open");
        let queued = open(CommandState::Queued);
        assert!(sentence(&queued).contains("no free slot"));
        let offline = OpenExecution { offline_since: Some(Timestamp(0)), ..queued.clone() };
        assert!(sentence(&offline).starts_with("web-1 is offline since 1970-01-01T00:00:00.000Z."));
        assert!(sentence(&offline).contains("expires at 1970-01-02T00:00:00.000Z"));
        let again = OpenExecution { attempt: 2, not_before: Some(Timestamp(0)), ..queued.clone() };
        assert!(
            sentence(&again)
                .starts_with("It is attempt 2, and is sent at 1970-01-01T00:00:00.000Z")
        );
        let holder = CommandId::new();
        let locked = OpenExecution { lock: Some(("apt", holder)), ..again };
        let names =
            format!("It waits for the lock `apt` on web-1, which execution {holder} holds.");
        assert!(sentence(&locked).starts_with(&names));
        let held = OpenExecution { is_held: true, wave: Some(3), ..offline };
        assert!(sentence(&held).starts_with("It waits for wave 3"));
        let waiting = OpenExecution { approval_until: Some(Timestamp(0)), ..held };
        assert!(sentence(&waiting).starts_with("It waits for another person's approval"));
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
