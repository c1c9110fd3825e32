//! The types of events that integrations can send.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoEnumIterator as _, IntoStaticStr};

/// What happened. The name in the API is `<resource>.<what happened>`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
pub enum EventType {
    /// An agent enrolled.
    #[strum(serialize = "agent.enrolled")]
    #[serde(rename = "agent.enrolled")]
    AgentEnrolled,
    /// An agent is connected again.
    #[strum(serialize = "agent.online")]
    #[serde(rename = "agent.online")]
    AgentOnline,
    /// An agent has been disconnected for longer than the grace period of the integration.
    #[strum(serialize = "agent.offline")]
    #[serde(rename = "agent.offline")]
    AgentOffline,
    /// Two hosts present one identity, or a name or a key pair belongs to another agent.
    #[strum(serialize = "identity.alert")]
    #[serde(rename = "identity.alert")]
    IdentityAlert,
    /// Every execution of a job succeeded.
    #[strum(serialize = "job.succeeded")]
    #[serde(rename = "job.succeeded")]
    JobSucceeded,
    /// A job ended, and not every execution succeeded.
    #[strum(serialize = "job.failed")]
    #[serde(rename = "job.failed")]
    JobFailed,
    /// A person cancelled or aborted a job.
    #[strum(serialize = "job.cancelled")]
    #[serde(rename = "job.cancelled")]
    JobCancelled,
    /// A rollout halted by itself and waits for a person.
    #[strum(serialize = "rollout.halted")]
    #[serde(rename = "rollout.halted")]
    RolloutHalted,
    /// A schedule was due while the server could not start its job in time.
    #[strum(serialize = "schedule.missed")]
    #[serde(rename = "schedule.missed")]
    ScheduleMissed,
    /// The job of a schedule failed or was refused.
    #[strum(serialize = "schedule.failed")]
    #[serde(rename = "schedule.failed")]
    ScheduleFailed,
    /// The job of a schedule succeeded after a failure that was sent.
    #[strum(serialize = "schedule.recovered")]
    #[serde(rename = "schedule.recovered")]
    ScheduleRecovered,
    /// A schedule was stopped, because its owner may not run it any more.
    #[strum(serialize = "schedule.stopped")]
    #[serde(rename = "schedule.stopped")]
    ScheduleStopped,
    /// A host installed an update and went back to the version before.
    #[strum(serialize = "update.rolled_back")]
    #[serde(rename = "update.rolled_back")]
    UpdateRolledBack,
    /// Work waits for the approval of another person.
    #[strum(serialize = "approval.requested")]
    #[serde(rename = "approval.requested")]
    ApprovalRequested,
    /// The condition of a rule holds.
    #[strum(serialize = "alert.opened")]
    #[serde(rename = "alert.opened")]
    AlertOpened,
    /// The condition of a rule holds no more.
    #[strum(serialize = "alert.resolved")]
    #[serde(rename = "alert.resolved")]
    AlertResolved,
    /// An API key or an agent key expires soon.
    #[strum(serialize = "key.expiring")]
    #[serde(rename = "key.expiring")]
    KeyExpiring,
    /// The certificate of an agent, a person or a program ends within 7 days, and was not renewed.
    #[strum(serialize = "certificate.expiring")]
    #[serde(rename = "certificate.expiring")]
    CertificateExpiring,
    /// The job of a schedule took much longer or shorter than the ones before.
    #[strum(serialize = "schedule.unusual_duration")]
    #[serde(rename = "schedule.unusual_duration")]
    ScheduleUnusualDuration,
    /// A person asked for a test message. Sent to every integration, and not chosen.
    #[strum(serialize = "integration.test")]
    #[serde(rename = "integration.test")]
    IntegrationTest,
}

/// Events about the same resource that are grouped: flapping agents and failing schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventGroup {
    /// Whether an agent is connected.
    Presence,
    /// Whether a schedule does its work.
    ScheduleHealth,
    /// Alerts about the identity of an agent, which is presented again and again.
    Identity,
}

/// How urgent an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    /// It ends a problem that was sent before.
    Resolved,
    Warning,
    Error,
}

impl EventType {
    /// The types that an integration can choose.
    pub fn chosen() -> impl Iterator<Item = Self> {
        Self::iter().filter(|kind| *kind != Self::IntegrationTest)
    }

    /// The name in API and database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The group, for types that are grouped.
    pub fn group(self) -> Option<EventGroup> {
        match self {
            Self::AgentOnline | Self::AgentOffline => Some(EventGroup::Presence),
            Self::ScheduleMissed | Self::ScheduleFailed | Self::ScheduleRecovered => {
                Some(EventGroup::ScheduleHealth)
            }
            Self::IdentityAlert => Some(EventGroup::Identity),
            _ => None,
        }
    }

    /// How urgent it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::AgentOffline | Self::AlertOpened | Self::JobFailed | Self::ScheduleFailed => {
                Severity::Error
            }
            Self::IdentityAlert
            | Self::RolloutHalted
            | Self::ScheduleMissed
            | Self::ScheduleStopped
            | Self::ScheduleUnusualDuration
            | Self::CertificateExpiring
            | Self::KeyExpiring
            | Self::UpdateRolledBack => Severity::Warning,
            Self::AgentOnline
            | Self::AlertResolved
            | Self::JobSucceeded
            | Self::JobCancelled
            | Self::ScheduleRecovered => Severity::Resolved,
            Self::AgentEnrolled | Self::ApprovalRequested | Self::IntegrationTest => Severity::Info,
        }
    }

    /// The resource that it is about: the part of the name before the dot, but agents for alerts and
    /// updates and jobs for rollouts.
    pub fn resource(self) -> &'static str {
        match self {
            Self::IdentityAlert | Self::UpdateRolledBack => "agent",
            Self::RolloutHalted => "job",
            other => other.as_str().split('.').next().unwrap_or_default(),
        }
    }
}

impl EventGroup {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::ScheduleHealth => "schedule_health",
            Self::Identity => "identity",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_in_json_and_text_and_name_their_resource() {
        for kind in EventType::iter() {
            assert_eq!(serde_json::to_value(kind).expect("plain"), kind.as_str());
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert!(!kind.resource().is_empty());
        }
    }
}
