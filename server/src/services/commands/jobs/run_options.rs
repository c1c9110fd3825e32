//! How the executions of a job are run: again after a failure, and one at a time under a lock.

use serde_json::json;

use super::JobRequest;
use crate::domain::commands::lock::LockName;
use crate::domain::commands::retries::{MAX_BACKOFF_MS, MAX_RETRIES, RetrySpec, StoredRetries};
use crate::services::error::{Result, ServiceError};

/// The validated options of a request.
pub(super) struct RunOptions {
    retries: Option<RetrySpec>,
    pub(super) lock: Option<String>,
}

impl JobRequest {
    /// # Errors
    /// 422 names the field that is out of its bounds.
    pub(super) fn run_options(&self) -> Result<RunOptions> {
        if let Some(RetrySpec { count, backoff_ms }) = self.retries {
            if !(1..=MAX_RETRIES).contains(&count) {
                let bounds = 1..=u64::from(MAX_RETRIES);
                return Err(ServiceError::out_of_range("retries.count", count.into(), bounds));
            }
            if backoff_ms > MAX_BACKOFF_MS {
                let bounds = 0..=MAX_BACKOFF_MS;
                return Err(ServiceError::out_of_range("retries.backoff_ms", backoff_ms, bounds));
            }
        }
        let lock = self.lock.as_deref().map(LockName::try_from).transpose();
        let lock = lock.map_err(|error| ServiceError::invalid_field("lock", &error.to_string()))?;
        Ok(RunOptions { retries: self.retries, lock: lock.map(LockName::into_text) })
    }
}

impl RunOptions {
    /// The parts of the hash of a request; none without options.
    pub(super) fn hashed(&self) -> Option<String> {
        let is_empty = self.retries.is_none() && self.lock.is_none();
        (!is_empty).then(|| json!({"retries": self.retries, "lock": self.lock}).to_string())
    }

    /// The column of a job.
    pub(super) fn stored_retries(&self, expires_in_ms: u64) -> Option<String> {
        let RetrySpec { count, backoff_ms } = self.retries?;
        Some(json!(StoredRetries { count, backoff_ms, expires_in_ms }).to_string())
    }
}
