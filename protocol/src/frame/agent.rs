//! Frames that an agent sends.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::result::Outcome;
use crate::commands::attestation::Attestation;
use crate::commands::step::StepProgress;
use crate::facts::FactReport;
use crate::library::CallReport;
use crate::manifest::Manifest;
use crate::package::{AssignmentReport, TaskRun};
use crate::release::UpdateResult;

/// A text frame from an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentFrame {
    /// First frame after `connected`.
    Register { data: Box<Registration> },
    /// Sent periodically; keeps the session alive.
    Heartbeat(Heartbeat),
    /// The result of a command. Repeated for a durable command until its `ack` has a receipt.
    Response(Response),
    /// Full: the command is in the fsynced ledger.
    Accepted {
        command_id: Uuid,
        /// Commands that this ledger has accepted so far, including this one.
        acceptance_count: u64,
    },
    /// Full: the child was started.
    Started { command_id: Uuid },
    /// Full: how far an execution with steps is. Sent when a step starts, and after a reconnection.
    StepProgress { command_id: Uuid, progress: StepProgress },
    /// Full: the scripts that this host allows. Sent after `registered`, and whenever they or the
    /// policy change.
    Manifest {
        manifest: Manifest,
        /// Why the newest file was rejected; an older one stays in force.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The host's current policy, as in `register`; absent while it can't be used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
        /// Life-cycle commands that the host's policy forbids, and `rekey`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        forbidden_commands: Vec<String>,
    },
    /// Full: a page of the commands in the ledger that have no receipt yet.
    Inventory { items: Vec<InventoryItem> },
    /// Full: the inventory is complete.
    InventoryEnd,
    /// Full: the host leaves the fleet for good, and asks the server to delete this agent. Sent
    /// after the inventory; the server ends the commands that are still open.
    Deregister,
    /// Full: the result of an update that the host itself requested, as in `register`. The result
    /// of an `update` command is in its `response`.
    UpdateResult { result: UpdateResult },
    /// Full: how far the host is with each of its assignments. Sent after each list of the server, and
    /// whenever it changes.
    AssignmentStates {
        /// Of the list that the states are about; 0 before the first one of this session.
        revision: u64,
        items: Vec<AssignmentReport>,
    },
    /// Full: a run that the host has started itself and has in its ledger. Sent before the inventory, or
    /// when it starts; after that the run is a command as any other. The server answers with an `ack`.
    TaskRun(TaskRun),
    /// Full: the content of `authorities` with this id is stored, and counts for further connections.
    AuthoritiesStored { id: Uuid },
    /// Full: what the host found out about itself. Sent after `registered` to a server that accepts
    /// facts, and whenever it changes; it replaces what was sent before.
    Facts(FactReport),
}

/// What an agent reports about itself.
///
/// Basic agents need only the fields of the basic protocol. A full agent sends `protocol`,
/// `ledger_id`, `acceptance_count`, `machine_id`, `instance_id`, `highest_epoch`, `public_key` and
/// `proof`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registration {
    /// Full: the id issued in `registered`, absent before enrolment. Basic: display only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub ip: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub os: String,
    /// Names of the commands that the agent supports; unknown names are ignored.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Absent: basic. 1: full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// Processor architecture in Rust's notation: `x86_64`, `aarch64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Created with the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_id: Option<Uuid>,
    /// Commands that this ledger has ever accepted, fsynced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance_count: Option<u64>,
    /// Opaque and stable per machine: a hash, never the raw id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Created at every start of the agent's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
    /// Highest session epoch that this ledger has seen; 0 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_epoch: Option<u64>,
    /// Executions that the agent runs at once; the server delivers no more. 0: the server must send
    /// nothing more, as in the last session of a host that leaves the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_executions: Option<u32>,
    /// What the host lets the server run: `manifest`, `library` or `shell`; absent while its policy
    /// can't be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Full: the result of the latest update, until the server has a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateResult>,
    /// Full: the public half of the agent's key pair, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Full: base64 of a signature with the key pair, over the challenge of `connected` and the
    /// claims `agent_id`, `machine_id`, `ledger_id` and `instance_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Full: the ticket of `registered`, by which a server that was restored from a backup
    /// recognises an id that it issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Full: the agent has a certificate, and shows it to a server that asks for one in the handshake of TLS.
    /// If the server received none, a proxy on the way ends TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_certificate: bool,
    /// Full: the name that the host's owner chose at the installation. Counts only when the agent enrols, and
    /// as a name that the host reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Full: the tags that the host's owner chose at the installation. They count only when the agent enrols,
    /// and only if its key trusts its holders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Full: the id of the last `authorities` that the agent has stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities_id: Option<Uuid>,
    /// Full: what starts the agent on its host, one of [`SERVICE_MANAGERS`]; absent if the agent does not
    /// know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_manager: Option<String>,
}

/// What starts an agent, in the words of `deploy.sh`.
pub const SERVICE_MANAGERS: [&str; 6] = ["systemd", "openrc", "runit", "cron", "none", "docker"];

impl Registration {
    /// True if the agent speaks the full protocol.
    pub fn is_full(&self) -> bool {
        self.protocol.is_some()
    }
}

/// Whether the ledger that an agent presents is the one that the server remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerComparison {
    /// The same ledger, at least as new as remembered. Its inventory is reliable.
    Current,
    /// Another ledger, or an older copy. Commands sent to the remembered one can't be accounted for.
    Replaced,
}

/// Compares ledgers by id and by fsynced acceptance count.
pub fn compare_ledger<Id: PartialEq>(
    remembered: Option<(&Id, u64)>,
    presented: (&Id, u64),
) -> LedgerComparison {
    match remembered {
        None => LedgerComparison::Current,
        Some((id, count)) if id == presented.0 && presented.1 >= count => LedgerComparison::Current,
        Some(_) => LedgerComparison::Replaced,
    }
}

/// A periodic sign of life. `status` is free-form: each agent chooses its content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    #[serde(default)]
    pub status: Map<String, Value>,
}

/// The fields of a heartbeat's `status` that the server stores as telemetry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Telemetry {
    /// 0 to 100, over all processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<f64>,
    /// 0 to 100, of the file system that holds the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_percent: Option<f64>,
    /// Of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    /// Average over one minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_1m: Option<f64>,
    /// Executions running now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_executions: Option<f64>,
}

impl Telemetry {
    /// Extracts the known numbers from a free-form status; ignores the rest.
    pub fn from_status(status: &Map<String, Value>) -> Self {
        let number =
            |name: &str| status.get(name).and_then(Value::as_f64).filter(|n| n.is_finite());
        let percent = |name: &str| number(name).map(|n| n.clamp(0.0, 100.0));
        Self {
            cpu_percent: percent("cpu_percent"),
            memory_percent: percent("memory_percent"),
            disk_percent: percent("disk_percent"),
            uptime_seconds: number("uptime_seconds"),
            load_1m: number("load_1m"),
            running_executions: number("running_executions"),
        }
    }
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Response {
    pub command_id: Uuid,
    pub success: bool,
    #[serde(default)]
    pub data: Value,
    /// A message for people; present when `success` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A stable code for programs, such as `no_space`, `unknown_script`, `permission_denied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Full, durable commands: the terminal state. Absent: `succeeded` or `failed` by `success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Full, durable commands: what the agent signs about the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// Full, calls of a script with a trigger: how far the call came, and its new data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallReport>,
}

/// One command in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InventoryItem {
    pub command_id: Uuid,
    pub state: InventoryState,
    /// Output bytes recorded on the host so far, both streams together.
    #[serde(default)]
    pub offset_bytes: u64,
}

/// The state of a command in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InventoryState {
    /// In the ledger, child not started.
    Accepted,
    /// The child was started and may still run.
    Running,
    /// A `response` is in the ledger and follows in this session.
    Settled,
}
