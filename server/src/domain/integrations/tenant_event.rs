//! Events of a tenant, for live streams.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::commands::approval::ApprovalState;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::JobState;
use crate::domain::fleet::reported_manifest::ManifestInForce;
use crate::domain::ids::{AgentId, AgentKeyId, AlertId, AlertRuleId, ApprovalId, CommandId, JobId};
use crate::domain::time::Timestamp;

/// The current state of a resource that changed. Changes in quick succession may be merged into one
/// event; the last state is always published.
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
        /// Executions by the name of their state. States without executions are omitted.
        counts: BTreeMap<&'static str, u64>,
        /// When the job ended, once it has.
        finished_at: Option<Timestamp>,
    },
    Agent {
        id: AgentId,
        is_connected: bool,
        /// Which manifest of the host is in force, if the event is about that.
        manifest: Option<ManifestInForce>,
    },
    Approval {
        id: ApprovalId,
        state: ApprovalState,
    },
    /// A new agent was refused because the plan of the tenant allows no more.
    AgentRefused {
        key_id: AgentKeyId,
        /// As its host reports it.
        hostname: String,
        /// Agents that the plan allows.
        limit: u64,
    },
    /// An alert opened or was resolved.
    Alert {
        id: AlertId,
        rule_id: AlertRuleId,
        /// `None` for the agents of a target together.
        agent_id: Option<AgentId>,
        is_open: bool,
    },
    /// A rule was created, changed, silenced or deleted.
    AlertRule {
        id: AlertRuleId,
        /// No alert opens before.
        silenced_until: Option<Timestamp>,
    },
}

/// The kind of resource that an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantEventKind {
    Execution,
    Job,
    Agent,
    Approval,
    AgentRefused,
    Alert,
    AlertRule,
}

impl TenantEventKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Execution,
        Self::Job,
        Self::Agent,
        Self::Approval,
        Self::AgentRefused,
        Self::Alert,
        Self::AlertRule,
    ];

    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::Job => "job",
            Self::Agent => "agent",
            Self::Approval => "approval",
            Self::AgentRefused => "agent_refused",
            Self::Alert => "alert",
            Self::AlertRule => "alert_rule",
        }
    }
}

/// A filter of events. An event without a filtered property does not match.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub kinds: Vec<TenantEventKind>,
    pub agent_id: Option<AgentId>,
    pub job_id: Option<JobId>,
    pub script: Option<String>,
}

impl TenantEvent {
    /// The kind of the event.
    pub fn kind(&self) -> TenantEventKind {
        match self {
            Self::Execution { .. } => TenantEventKind::Execution,
            Self::Job { .. } => TenantEventKind::Job,
            Self::Agent { .. } => TenantEventKind::Agent,
            Self::Approval { .. } => TenantEventKind::Approval,
            Self::AgentRefused { .. } => TenantEventKind::AgentRefused,
            Self::Alert { .. } => TenantEventKind::Alert,
            Self::AlertRule { .. } => TenantEventKind::AlertRule,
        }
    }
}

impl EventFilter {
    /// True if the filter matches the event.
    pub fn matches(&self, event: &TenantEvent) -> bool {
        let (agent_id, job_id, script) = match event {
            TenantEvent::Execution { job_id, agent_id, script, .. } => {
                (Some(*agent_id), *job_id, script.as_deref())
            }
            TenantEvent::Job { id, script, .. } => (None, Some(*id), Some(script.as_str())),
            TenantEvent::Agent { id, .. } => (Some(*id), None, None),
            TenantEvent::Alert { agent_id, .. } => (*agent_id, None, None),
            TenantEvent::Approval { .. } | TenantEvent::AlertRule { .. } => (None, None, None),
            // It has no id yet.
            TenantEvent::AgentRefused { .. } => (None, None, None),
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
    fn an_event_without_a_filtered_property_does_not_match() {
        let (agent_id, job_id) = (AgentId::new(), JobId::new());
        let execution = TenantEvent::Execution {
            id: CommandId::new(),
            job_id: Some(job_id),
            agent_id,
            script: Some("deploy".into()),
            state: CommandState::Running,
        };
        let agent = TenantEvent::Agent { id: agent_id, is_connected: true, manifest: None };
        let all = || EventFilter { kinds: TenantEventKind::ALL.to_vec(), ..EventFilter::default() };
        let of_agent = EventFilter { agent_id: Some(agent_id), ..all() };
        let of_job = EventFilter { job_id: Some(job_id), ..all() };
        let of_script = EventFilter { script: Some("deploy".into()), ..all() };
        for (filter, expected) in [
            (&all(), [true, true]),
            (&of_agent, [true, true]),
            (&of_job, [true, false]),
            (&of_script, [true, false]),
            (&EventFilter { job_id: Some(JobId::new()), ..of_script.clone() }, [false, false]),
            (
                &EventFilter { kinds: vec![TenantEventKind::Agent], ..of_agent.clone() },
                [false, true],
            ),
        ] {
            assert_eq!(
                [&execution, &agent].map(|event| filter.matches(event)),
                expected,
                "{filter:?}"
            );
        }
    }
}
