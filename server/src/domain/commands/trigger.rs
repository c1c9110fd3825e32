//! What set an execution going.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// What set an execution, or another durable command, going.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A request of its own, through REST or the command line.
    Api,
    /// A job that was done once more.
    Retry,
    /// A group whose agents are to be of another version.
    Group,
}

impl Trigger {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Retry => "retry",
            Self::Group => "group",
        }
    }
}
