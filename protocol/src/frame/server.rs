//! Frames that a server sends.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::commands::capsule::Capsule;
use crate::commands::permission::Permissions;
use crate::identity::Challenge;
use crate::library::{ScriptContent, TriggerCall};
use crate::package::AssignedItem;

/// A text frame from a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// At once, after the key was accepted.
    Connected {
        message: String,
        agent_key_id: Uuid,
        permissions: Permissions,
        /// RFC 3339, UTC.
        timestamp: String,
        /// What a full agent signs in `register`. Absent when the frame is sent again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        challenge: Option<Challenge>,
    },
    /// The response to `register`.
    Registered(Box<Registered>),
    /// The response to each heartbeat.
    HeartbeatAck {
        /// RFC 3339, UTC.
        timestamp: String,
    },
    /// A frame was rejected; the session continues.
    Error { code: ErrorCode, message: String },
    /// Run this command.
    Command(Box<Command>),
    /// Full: end this command. Repeated at every resume. The agent stores a tombstone for an
    /// unknown id.
    Cancel {
        command_id: Uuid,
        /// Between TERM and KILL.
        grace_ms: u64,
    },
    /// Full: what the server has committed for a command.
    Ack(Ack),
    /// Full: close this connection and reconnect after the delay.
    Drain { reconnect_delay_ms: u64 },
    /// Full: use this key from now on.
    Rekey {
        /// The new agent key.
        key: String,
        /// How long the old one stays valid.
        grace_ms: u64,
    },
    /// Full: the agent's deletion is committed; the session ends.
    Deregistered,
    /// Full: all packages that the host must have, sent to agents with the capability `assignments` after
    /// the inventory and at each change. It replaces what was sent before.
    Assignments {
        /// Counts the lists of this session.
        revision: u64,
        items: Vec<AssignedItem>,
    },
    /// Full: a certificate for the agent's key pair, sent to agents with the capability
    /// `client_certificates`. The agent stores it and shows it on its next connections.
    Certificate {
        /// DER, base64; at most [`MAX_CERTIFICATE_BYTES`](crate::identity::MAX_CERTIFICATE_BYTES).
        certificate: String,
    },
    /// Full: the authority that the agent must trust, sent to agents with the capability `authorities`. The
    /// agent stores it and answers with `authorities_stored`.
    Authorities(Box<AuthorityNotice>),
}

/// The authority of the server's certificates, and those that it has replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthorityNotice {
    /// Changes with the content.
    pub id: Uuid,
    /// The authority that signs the server's certificates now or soon. DER, base64; at most
    /// [`MAX_CERTIFICATE_BYTES`](crate::identity::MAX_CERTIFICATE_BYTES).
    pub certificate: String,
    /// Proves the authority to an agent that trusts only the former one: a certificate of the server that the
    /// authority has issued, then the authority's key in a certificate that the former one has issued. Each is
    /// DER, base64. Empty if there is no former authority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
    /// SHA-256 of the certificates of authorities that the agent must not trust any more, hex; at most
    /// [`MAX_RETIRED_AUTHORITIES`](crate::identity::MAX_RETIRED_AUTHORITIES).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
}

/// The session is open. Contains its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// The agent's permanent id. If a full agent presented another id, it was enrolled again: it
    /// sets its ledger aside and runs nothing from it.
    pub agent_id: Uuid,
    /// This session's epoch; a newer epoch fences off older sessions.
    pub epoch: u64,
    pub heartbeat_interval_ms: u64,
    /// Output that the server stores per execution, in bytes: a full agent keeps no more for
    /// commands that it accepts from now on. Absent: the protocol's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<u64>,
    /// True if the server knows less than the agent because it was restored from a backup.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub server_restored: bool,
    /// The version of the server, for people.
    pub server_version: String,
    /// The version that this agent should run; absent means no change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_version: Option<String>,
    /// RFC 3339, UTC. For information only.
    pub timestamp: String,
    /// Shows that this server issued `agent_id` to the agent's public key. A full agent stores it and
    /// sends it in `register`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The agent enrolled with tags, and its key does not let hosts choose tags.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tags_ignored: bool,
    /// The server stores facts, so the agent may send the frame `facts`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepts_facts: bool,
}

/// An instruction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Command {
    pub command_id: Uuid,
    /// A name of [`CommandName`](crate::CommandName). Unknown names get an error response.
    pub command: String,
    #[serde(default)]
    pub data: Value,
    /// RFC 3339, UTC. For information only.
    pub timestamp: String,
    /// Durable: the child must be started within this time of the frame's arrival, by the
    /// agent's monotonic clock; else the command ends `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within_ms: Option<u64>,
    /// Durable: what an approver has signed about this command. A host whose policy names approvers
    /// checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capsule: Option<Capsule>,
    /// Durable: the script of the library that the data pins. Sent to agents with the capability
    /// `library`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Box<ScriptContent>>,
    /// Durable: the scripts of the library that the steps of the data pin, each once. Sent to agents with the
    /// capability `steps`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_contents: Vec<ScriptContent>,
    /// Durable: the script has a trigger, and a schedule calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Box<TriggerCall>>,
    /// Durable: the id of the request that asked for it, for the agent's log. Absent for what no request
    /// asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What the server has committed for a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ack {
    pub command_id: Uuid,
    /// Output is committed up to this offset. In response to an inventory: continue from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_bytes: Option<u64>,
    /// The server has the result; the agent must not send it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// How the server handled a reported result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// It is stored as the result, now or earlier.
    Recorded,
    /// The command had already ended differently; the report is stored as `late_result`.
    Late,
    /// This server does not know the command and does not want its output.
    UnknownCommand,
}

/// Why a frame was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, or not an object with a `type`.
    MalformedJson,
    /// An unknown `type`.
    UnknownType,
    /// A known `type` with invalid fields.
    InvalidFrame,
    /// A known `type` at the wrong moment, such as a `heartbeat` before `register`.
    UnexpectedFrame,
    /// A response to a command that is not open.
    UnknownCommand,
}
