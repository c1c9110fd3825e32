//! Webhooks: where they may go, how they are signed, when they are tried again.
//!
//! Knows no socket: names are resolved elsewhere, and every address is judged by [`address`].

pub mod address;
pub mod retry;
pub mod signature;
mod target;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

pub use self::target::{InvalidUrl, MAX_URL_BYTES, WebhookUrl};

/// The one event there is.
pub const JOB_FINISHED: &str = "job.finished";

/// Where webhooks may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// `https` to public addresses alone.
    Public,
    /// Private addresses too, by `https` or `http`.
    Private,
}

/// Where a delivery is.
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
pub enum DeliveryState {
    /// It is tried, again and again.
    Pending,
    /// The receiver has answered with a 2xx.
    Delivered,
    /// Nobody took it for a day, or the receiver has answered 410: it wants no more.
    Failed,
}

impl DeliveryState {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}
