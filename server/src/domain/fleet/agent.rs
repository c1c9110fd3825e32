//! What kind of agent this is, how it is connected, and what can happen to it.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

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
    /// It knows of sessions that this server does not: the server was restored from a backup.
    ServerRestored,
}
