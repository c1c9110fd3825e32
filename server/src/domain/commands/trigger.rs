//! What set an execution going.

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

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
    DeriveActiveEnum,
    utoipa::ToSchema,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
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
