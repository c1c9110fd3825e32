//! Webhooks: signatures, retries and the states of deliveries.

pub mod retry;
pub mod signature;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// The only event.
pub const JOB_FINISHED: &str = "job.finished";

/// The state of a delivery.
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
pub enum WebhookDeliveryState {
    /// A message of an integration that waits for earlier ones, or for the end of a grace period.
    Queued,
    /// Attempts are made until it is delivered or fails.
    Pending,
    /// The receiver answered with a 2xx status.
    Delivered,
    /// No attempt succeeded within a day, or the receiver answered 410.
    Failed,
}

impl WebhookDeliveryState {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}
