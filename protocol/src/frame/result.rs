//! What an `execute` ends in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The terminal states that an agent may report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The child exited with 0.
    Succeeded,
    /// The child exited otherwise, died by a signal, or could not be started.
    Failed,
    /// It ran past `timeout_ms` and was ended.
    TimedOut,
    /// It was cancelled, before its start or while it ran.
    Cancelled,
    /// `start_within_ms` had passed when its turn came; it never started.
    Expired,
    /// The host refused it; it never started.
    Rejected,
    /// It was started and what came of it can't be known.
    Lost,
}

/// `response.data` of an `execute` that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecuteResult {
    /// Of the direct child; absent if a signal ended it or it was never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the direct child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Wall time on the host from start to exit of the direct child, by a monotonic clock.
    pub duration_ms: u64,
    /// Payload of both streams that was kept; what the output is read against.
    pub output_bytes: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// Payload that was read from the child and not kept (cap, quota, full disk).
    #[serde(default)]
    pub dropped_bytes: u64,
    /// False if anything is missing from the output.
    pub output_complete: bool,
    /// Hex SHA-256 of the kept payload, both streams in the order read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha256: Option<String>,
}
