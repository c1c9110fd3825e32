//! What happens in a tenant, as people and programs are told of it while it happens.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::domain::time::Timestamp;

/// How something stands now that has changed. Changes that follow each other closely may be told as
/// one; the last is always told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantEvent {
    Execution {
        id: CommandId,
        job_id: Option<JobId>,
        agent_id: AgentId,
        script: Option<String>,
        state: CommandState,
    },
    Job {
        id: JobId,
        script: String,
        state: JobState,
        /// Executions by state, by its name; states that none is in are left out.
        counts: BTreeMap<&'static str, u64>,
        /// When it was over, once it is.
        finished_at: Option<Timestamp>,
    },
    Agent {
        id: AgentId,
        is_connected: bool,
    },
}

/// What an event is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Execution,
    Job,
    Agent,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Execution, Self::Job, Self::Agent];

    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::Job => "job",
            Self::Agent => "agent",
        }
    }
}

/// Which events are wanted. An event that lacks what is asked for is not.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub kinds: Vec<EventKind>,
    pub agent_id: Option<AgentId>,
    pub job_id: Option<JobId>,
    pub script: Option<String>,
}

impl TenantEvent {
    /// What it is of.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Execution { .. } => EventKind::Execution,
            Self::Job { .. } => EventKind::Job,
            Self::Agent { .. } => EventKind::Agent,
        }
    }
}

impl EventFilter {
    /// True for an event that is wanted.
    pub fn matches(&self, event: &TenantEvent) -> bool {
        let (agent_id, job_id, script) = match event {
            TenantEvent::Execution { job_id, agent_id, script, .. } => {
                (Some(*agent_id), *job_id, script.as_deref())
            }
            TenantEvent::Job { id, script, .. } => (None, Some(*id), Some(script.as_str())),
            TenantEvent::Agent { id, .. } => (Some(*id), None, None),
        };
        self.kinds.contains(&event.kind())
            && (self.agent_id.is_none() || self.agent_id == agent_id)
            && (self.job_id.is_none() || self.job_id == job_id)
            && (self.script.is_none() || self.script.as_deref() == script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_lacks_what_is_asked_for_is_not_wanted() {
        let (agent_id, job_id) = (AgentId::new(), JobId::new());
        let execution = TenantEvent::Execution {
            id: CommandId::new(),
            job_id: Some(job_id),
            agent_id,
            script: Some("deploy".into()),
            state: CommandState::Running,
        };
        let agent = TenantEvent::Agent { id: agent_id, is_connected: true };
        let all = || EventFilter { kinds: EventKind::ALL.to_vec(), ..EventFilter::default() };
        let of_agent = EventFilter { agent_id: Some(agent_id), ..all() };
        let of_job = EventFilter { job_id: Some(job_id), ..all() };
        let of_script = EventFilter { script: Some("deploy".into()), ..all() };
        for (filter, expected) in [
            (&all(), [true, true]),
            (&of_agent, [true, true]),
            (&of_job, [true, false]),
            (&of_script, [true, false]),
            (&EventFilter { job_id: Some(JobId::new()), ..of_script.clone() }, [false, false]),
            (&EventFilter { kinds: vec![EventKind::Agent], ..of_agent.clone() }, [false, true]),
        ] {
            assert_eq!(
                [&execution, &agent].map(|event| filter.matches(event)),
                expected,
                "{filter:?}"
            );
        }
    }
}
