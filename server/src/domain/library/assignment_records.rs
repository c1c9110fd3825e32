//! What the API shows of assignments.

use std::collections::HashSet;

use muster_protocol::library::{LIBRARY_PREFIX, ScriptSignature};
use muster_protocol::package::{
    PACKAGE_PREFIX, PackageKind, PackagePin, ServiceReport, TaskSchedule,
};
use muster_protocol::parameter::Parameters;
use strum::{EnumString, IntoStaticStr};

use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::ids::{AgentId, AssignmentId, ContentId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// A version of a package, or of a script, that is wanted on the agents of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentRecord {
    pub id: AssignmentId,
    pub tenant_id: TenantId,
    pub name: String,
    pub content_id: ContentId,
    /// Of the package or the script: name and version.
    pub content_name: String,
    pub content_version: String,
    /// All versions that are assigned one after the other have the same one.
    pub kind: AssignedKind,
    /// Of a script: a `TaskSchedule`, JSON. It never changes.
    pub schedule: Option<String>,
    /// A `TargetSpec`, JSON.
    pub target: String,
    /// Of each run, JSON. They never change.
    pub parameters: String,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// Hosts may still report runs of an assignment that is deleted.
    pub deleted_at: Option<Timestamp>,
}

impl AssignmentRecord {
    pub fn parameters(&self) -> Parameters {
        serde_json::from_str(&self.parameters).unwrap_or_default()
    }

    /// When a script is due. A package of kind `task` has its own schedule.
    pub fn schedule(&self) -> Option<TaskSchedule> {
        self.schedule.as_deref().and_then(|text| serde_json::from_str(text).ok())
    }

    /// `package:NAME` or `library:NAME`, as rules and executions name it.
    pub fn script(&self) -> String {
        format!("{}{}", self.kind.prefix(), self.content_name)
    }

    /// The same with this version.
    pub fn reference_to(&self, version: &str) -> String {
        format!("{}@{version}", self.script())
    }

    /// The same with the version that is assigned.
    pub fn reference(&self) -> String {
        self.reference_to(&self.content_version)
    }
}

/// What is assigned, and what hosts do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AssignedKind {
    /// A package that runs at the due times of its own schedule.
    Task,
    /// A package that hosts keep running.
    Service,
    /// A script of the library that runs at the due times of the assignment.
    Script,
}

impl AssignedKind {
    /// Of references to what is assigned.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Task | Self::Service => PACKAGE_PREFIX,
            Self::Script => LIBRARY_PREFIX,
        }
    }

    /// `None` for packages that can't be assigned.
    pub fn of(kind: PackageKind) -> Option<Self> {
        match kind {
            PackageKind::Job => None,
            PackageKind::Task => Some(Self::Task),
            PackageKind::Service => Some(Self::Service),
        }
    }

    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What people ask of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceAction {
    Start,
    Stop,
    Restart,
}

/// An assignment with what hosts get of it.
#[derive(Debug, Clone)]
pub struct WantedAssignment {
    pub row: AssignmentRecord,
    pub content: AssignedContent,
    /// While a rollout is under way.
    pub rollout: Option<WantedRollout>,
    /// Of the key that made it; `None` for a member, who may run packages on all agents.
    pub maker: Option<KeyRights>,
}

impl WantedAssignment {
    /// What this agent gets; `None` if no wave of the first version has reached it.
    pub fn content_for(&self, agent_id: AgentId) -> Option<&AssignedContent> {
        match &self.rollout {
            Some(rollout) if !rollout.reached.contains(&agent_id) => rollout.former.as_ref(),
            _ => Some(&self.content),
        }
    }
}

/// What agents get while a version reaches them in waves.
#[derive(Debug, Clone)]
pub struct WantedRollout {
    /// The former version, which agents have that no wave has reached.
    pub former: Option<AssignedContent>,
    pub reached: HashSet<AgentId>,
}

/// What hosts get of a version of a package or a script.
#[derive(Debug, Clone)]
pub struct AssignedContent {
    /// Its document, byte for byte.
    pub document: String,
    /// What publishers have signed about it.
    pub signatures: Vec<ScriptSignature>,
    pub pin: PackagePin,
    /// Of a script: the size of its body.
    pub body_bytes: Option<u64>,
}

/// The last report of a host about an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentStateRecord {
    pub agent_id: AgentId,
    pub version: String,
    /// `downloading`, `installed` or `failed`.
    pub state: String,
    pub error_code: Option<String>,
    pub error: Option<String>,
    pub skipped_count: i64,
    /// Of a service.
    pub service: Option<ServiceReport>,
    pub reported_at: Timestamp,
}
