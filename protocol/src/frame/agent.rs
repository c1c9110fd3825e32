//! Frames that an agent sends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Outcome;
use crate::manifest::Manifest;
use crate::release::UpdateResult;

/// A text frame from an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentFrame {
    /// First frame after `connected`.
    Register { data: Box<Registration> },
    /// Sent periodically; keeps the session alive.
    Heartbeat(Heartbeat),
    /// The answer to a command. Of a durable one: repeated until its `ack` has a receipt.
    Response(Response),
    /// Full: the command stands in the fsynced ledger.
    Accepted {
        command_id: Uuid,
        /// Commands this ledger has accepted so far, this one included.
        acceptance_count: u64,
    },
    /// Full: the child was started.
    Started { command_id: Uuid },
    /// Full: the scripts this host allows; after `registered`, and whenever they or the policy change.
    Manifest {
        manifest: Manifest,
        /// Why the newest file was refused, while an older one stays in force.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The host's policy by now, as in `register`; absent while it can't be used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
    },
    /// Full: a page of the commands in the ledger that have no receipt yet.
    Inventory { items: Vec<InventoryItem> },
    /// Full: the inventory is complete.
    InventoryEnd,
    /// Full: the host leaves the fleet for good: delete this agent. After the inventory; what has
    /// not ended then is ended by the server.
    Deregister,
    /// Full: what came of a wish of the host's own, as in `register`. What came of an `update` is said
    /// in its `response`.
    UpdateResult { result: UpdateResult },
}

/// What an agent says of itself.
///
/// Every field but those of the first generation is optional for basic agents; a full agent sends
/// `protocol`, `ledger_id`, `acceptance_count`, `machine_id`, `instance_id` and `highest_epoch`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Names of commands the agent can carry out; unknown names are ignored.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Absent: basic. 1: full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// Processor architecture, as Rust names it: `x86_64`, `aarch64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Made with the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_id: Option<Uuid>,
    /// Commands this ledger has ever accepted, fsynced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance_count: Option<u64>,
    /// Opaque and stable per machine; a hash, never the raw id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Made at every start of the agent's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
    /// Highest session epoch this ledger has seen; 0 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_epoch: Option<u64>,
    /// Executions the agent runs at once; the server keeps no more delivered. 0: nothing is sent any
    /// more, as in the last session of a host that leaves the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_executions: Option<u32>,
    /// What the host lets the server ask for: `manifest`, `library` or `shell`; absent while its
    /// policy can't be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Full: what came of the latest wish for another version, while nothing newer is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateResult>,
}

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

/// A sign of life. Free-form: an agent of any generation puts what it likes into `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    #[serde(default)]
    pub status: Map<String, Value>,
}

/// The fields of a heartbeat's `status` that the server keeps as telemetry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Picks the known numbers out of a free-form status; anything else in it is left alone.
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

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    pub command_id: Uuid,
    pub success: bool,
    #[serde(default)]
    pub data: Value,
    /// A sentence for people; present when `success` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A stable word for programs, such as `no_space`, `unknown_script`, `permission_denied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Full, durable commands: the terminal state. Absent: `succeeded` or `failed` by `success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// One command in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryItem {
    pub command_id: Uuid,
    pub state: InventoryState,
    /// Output bytes recorded on the host so far, both streams together.
    #[serde(default)]
    pub offset_bytes: u64,
}

/// How far the ledger says a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InventoryState {
    /// In the ledger, child not started.
    Accepted,
    /// The child was started and may still run.
    Running,
    /// A `response` is in the ledger and follows in this session.
    Settled,
}
