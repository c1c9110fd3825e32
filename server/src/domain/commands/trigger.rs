//! What started an execution.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// Why a durable command exists.
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
    /// A request through REST or the command line.
    Api,
    /// The retry of a job.
    Retry,
    /// A group whose agents get another version.
    Group,
    /// A due time of a schedule, or a request to run it now.
    Schedule,
    /// A delivery to an inbound hook, or a test of it.
    Hook,
    /// A due time of a task that is assigned to the host, which the host started itself.
    Task,
    /// A service that is assigned to the host, which the host started itself.
    Service,
}

impl Trigger {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Retry => "retry",
            Self::Group => "group",
            Self::Schedule => "schedule",
            Self::Hook => "hook",
            Self::Task => "task",
            Self::Service => "service",
        }
    }
}
