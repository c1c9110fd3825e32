//! Frames that a server sends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Permissions;

/// A text frame from a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// At once, after the key was accepted.
    Connected {
        message: String,
        agent_key_id: Uuid,
        permissions: Permissions,
        /// RFC 3339, UTC.
        timestamp: String,
    },
    /// The answer to `register`.
    Registered(Box<Registered>),
    /// The answer to each heartbeat.
    HeartbeatAck {
        /// RFC 3339, UTC.
        timestamp: String,
    },
    /// Something that was sent could not be understood; the session goes on.
    Error { code: ErrorCode, message: String },
    /// Do this.
    Command(Box<Command>),
    /// Full: end this command; repeated at every resume. An id never seen gets a tombstone.
    Cancel {
        command_id: Uuid,
        /// Between TERM and KILL.
        grace_ms: u64,
    },
    /// Full: what the server has committed of a command.
    Ack(Ack),
    /// Full: close this link and come back after the delay.
    Drain { reconnect_delay_ms: u64 },
    /// Full: use this key from now on.
    Rekey {
        /// The new agent key.
        key: String,
        /// How long the old one stays valid.
        grace_ms: u64,
    },
    /// Full: the agent is deleted, committed; the session ends.
    Deregistered,
}

/// The session is open; what holds in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The agent's id for life. A full agent that presented another id has been enrolled anew:
    /// it sets its ledger aside and runs nothing of it.
    pub agent_id: Uuid,
    /// This session's epoch; newer ones fence off older ones.
    pub epoch: u64,
    pub heartbeat_interval_ms: u64,
    /// Payload that is wanted of one execution's output: a full agent keeps no more of what is
    /// accepted from now on. Absent: the bound of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<u64>,
    /// True if the server knows less than the agent: it was restored from a backup.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub server_restored: bool,
    /// The version of the server, for people.
    pub server_version: String,
    /// The version that this agent should be of; absent leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_version: Option<String>,
    /// RFC 3339, UTC; informs, decides nothing.
    pub timestamp: String,
}

/// An instruction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    pub command_id: Uuid,
    /// A name of [`CommandName`](crate::CommandName); unknown ones are answered, not dropped.
    pub command: String,
    #[serde(default)]
    pub data: Value,
    /// RFC 3339, UTC; informs, decides nothing.
    pub timestamp: String,
    /// Durable: the child must be started within this time of the frame's arrival, by the
    /// agent's monotonic clock; else the command ends `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within_ms: Option<u64>,
}

/// What is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ack {
    pub command_id: Uuid,
    /// Output is committed up to here. As the answer to an inventory: send on from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_bytes: Option<u64>,
    /// The result needs no further sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// What became of a reported result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// It is the result, now or already before.
    Recorded,
    /// The command had ended otherwise; the report is kept beside as `late_result`.
    Late,
    /// This server knows no such command; output is not wanted either.
    UnknownCommand,
}

/// Why a frame could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, or not an object with a `type`.
    MalformedJson,
    /// A `type` this server does not know.
    UnknownType,
    /// A known `type` whose fields don't fit.
    InvalidFrame,
    /// A known `type` at the wrong moment, such as a `heartbeat` before `register`.
    UnexpectedFrame,
    /// An answer to a command that is not open.
    UnknownCommand,
}
