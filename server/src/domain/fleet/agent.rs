//! What kind of agent this is, how it is connected, and what can happen to it.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::AgentId;

/// How much of the protocol an agent speaks.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AgentLevel {
    /// It speaks the frames of the first generation only.
    Basic,
    /// It keeps a ledger, reports output by offset and can cancel.
    Full,
}

/// Who gave an agent its name.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// A person, through the API.
    Given,
    /// The host, when it enrolled. Another host may report the same name.
    Reported,
}

/// What a session runs over.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Websocket,
    Http,
}

/// What happened to an agent.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AgentEventKind {
    Enrolled,
    Online,
    Offline,
    /// It left for good, at its own request.
    Deregistered,
    /// It came back with another ledger, or an older copy.
    LedgerReplaced,
    /// Two hosts present its identity.
    IdentityConflict,
    /// Its name or hostname is that of another agent.
    NameConflict,
    /// A host with its machine id presented another key pair, or it is that host.
    KeyPairChanged,
    /// A person accepted another key pair as its own.
    Adopted,
    /// It knows of sessions that this server does not: the server was restored from a backup.
    ServerRestored,
}

/// The alert of an agent whose identity two hosts present.
pub const IDENTITY_CONFLICT: &str = "identity_conflict";
/// The alert of an agent whose name or hostname another agent had first.
pub const NAME_CONFLICT: &str = "name_conflict";

/// The alert of an agent whose machine id came with two key pairs.
pub const KEY_PAIR_CHANGED: &str = "key_pair_changed";

/// What a typed word matched of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchedBy {
    Id,
    /// A name that a person gave.
    GivenName,
    /// A name that the host reported.
    ReportedName,
    /// The hostname that the host reported.
    Hostname,
}

impl MatchedBy {
    /// True if a host cannot bring about this match by what it reports.
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::Id | Self::GivenName)
    }
}

/// One of several agents that a word matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AgentCandidate {
    pub id: AgentId,
    pub name: String,
    pub name_source: NameSource,
    pub hostname: String,
}
