//! The result of an `execute`.

use serde::{Deserialize, Serialize};

use crate::commands::step::StepResult;
use crate::library::Rehearsal;

/// The terminal states that an agent may report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The child exited with 0.
    Succeeded,
    /// The child exited with another code, was killed by a signal, or could not be started.
    Failed,
    /// It exceeded `timeout_ms` and was killed.
    TimedOut,
    /// It was cancelled, before its start or while it ran.
    Cancelled,
    /// `start_within_ms` had passed before it could start; it never started.
    Expired,
    /// The host rejected it; it never started.
    Rejected,
    /// It was started, and its result can't be known.
    Lost,
}

/// `response.data` of an `execute` that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecuteResult {
    /// Of the direct child; absent if a signal killed it or it was never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed the direct child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Time from start to exit of the direct child, by the host's monotonic clock.
    pub duration_ms: u64,
    /// Stored payload of both streams; the length of the complete output.
    pub output_bytes: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// Payload that was read from the child and not stored (limit, quota, full disk).
    #[serde(default)]
    pub dropped_bytes: u64,
    /// False if any part of the output is missing.
    pub output_complete: bool,
    /// Hex SHA-256 of the stored payload, both streams in the order read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha256: Option<String>,
    /// Hex SHA-256 of the stored payload of this stream alone, so that no byte can be moved to the
    /// other stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_sha256: Option<String>,
    /// As `stdout_sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_sha256: Option<String>,
    /// Of an execution with steps: the result of each, in their order. Exit code and signal are then those of
    /// the first step that did not succeed, or of the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepResult>,
    /// Of a rehearsal: where its dummy secrets came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
}
