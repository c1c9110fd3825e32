//! What the API shows of stored rows: plain data, without hashes, sealed values and columns that only
//! the store needs. The entities convert their rows.

use muster_protocol::facts::FactError;
use muster_protocol::identity::{AgentPublicKey, Fingerprint};

use super::agent::{AgentEventKind, AgentLevel, NameSource, Transport};
use super::reported_manifest::ManifestInForce;
use super::target::facts::HostFacts;
use crate::domain::ids::{AgentId, AgentKeyId, EventId};
use crate::domain::time::Timestamp;

/// The agent of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    pub id: AgentId,
    pub key_id: AgentKeyId,
    pub level: AgentLevel,
    pub name: String,
    pub name_source: NameSource,
    pub hostname: String,
    pub ip: String,
    pub version: String,
    pub os: String,
    pub arch: String,
    /// Empty if the agent did not report it.
    pub service_manager: String,
    pub capabilities: Vec<String>,
    pub tags: Vec<String>,
    /// The key pair that a full agent proves.
    pub public_key: Option<AgentPublicKey>,
    /// The fingerprint that a person accepted as the agent's next one.
    pub next_fingerprint: Option<Fingerprint>,
    pub policy: Option<String>,
    pub max_executions: i32,
    pub transport: Transport,
    pub alert: Option<String>,
    /// A sentence about the alert: what happened, and what to do.
    pub alert_detail: Option<String>,
    pub connected_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub created_at: Timestamp,
    /// The result of the latest update, JSON.
    pub update_result: Option<String>,
    /// When that result was reported.
    pub update_result_at: Option<Timestamp>,
}

/// A change of an agent's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEventRecord {
    pub id: EventId,
    pub kind: AgentEventKind,
    pub detail: Option<String>,
    pub at: Timestamp,
}

/// The telemetry of one heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryRecord {
    pub at: Timestamp,
    pub cpu_percent: Option<f64>,
    pub memory_percent: Option<f64>,
    pub disk_percent: Option<f64>,
    pub uptime_seconds: Option<f64>,
    pub load_1m: Option<f64>,
    pub running_executions: Option<f64>,
}

/// The facts that a host reported last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactReportRecord {
    pub facts: HostFacts,
    /// What the host, or the server, could not take.
    pub errors: Vec<FactError>,
    /// When they were reported first.
    pub changed_at: Timestamp,
}

/// The manifest that a host reported last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecord {
    /// JSON.
    pub manifest: String,
    /// The commands that the policy of the host forbids, as stored.
    pub forbidden_commands: Option<String>,
    /// Why the host refused a newer one.
    pub error: Option<String>,
    pub in_force: ManifestInForce,
    /// When the manifest in force was first reported.
    pub in_force_since: Timestamp,
    pub reported_at: Timestamp,
}
