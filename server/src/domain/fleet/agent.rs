//! The kinds, transports and events of agents.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::AgentId;

/// The level of the protocol that an agent speaks.
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
    /// Only the frames that every agent must know.
    Basic,
    /// It has a ledger, reports output by offset and can cancel commands.
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

/// The transport of a session.
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

/// The kind of an agent's event.
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
    /// It was deleted at its own request.
    Deregistered,
    /// It reconnected with another ledger, or with an older copy.
    LedgerReplaced,
    /// Two hosts present its identity.
    IdentityConflict,
    /// Its name or hostname is that of another agent.
    NameConflict,
    /// A host with its machine id presented another key pair, or it is that host.
    KeyPairChanged,
    /// It came with another agent key of its tenant; the detail is the name of that key.
    AgentKeyChanged,
    /// A person accepted another key pair as its own.
    Adopted,
    /// Its host rejected the newest manifest file, or the file was deleted.
    ManifestRejected,
    /// The newest manifest file of its host is in force again.
    ManifestAccepted,
    /// It knows of sessions that this server does not: the server was restored from a backup.
    ServerRestored,
}

/// The alert of an agent whose identity two hosts present.
pub const IDENTITY_CONFLICT: &str = "identity_conflict";
/// The alert of an agent whose name or hostname belonged to another agent first.
pub const NAME_CONFLICT: &str = "name_conflict";

/// The alert of an agent whose machine id came with two key pairs.
pub const KEY_PAIR_CHANGED: &str = "key_pair_changed";

/// How a name matched an agent.
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
    /// True if a host cannot cause this match by what it reports.
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::Id | Self::GivenName)
    }
}

/// One of several agents that a name matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AgentCandidate {
    pub id: AgentId,
    pub name: String,
    pub name_source: NameSource,
    pub hostname: String,
}
