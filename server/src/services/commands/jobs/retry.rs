//! Retries a job as a new job.

use std::collections::HashSet;

use serde_json::Value;

use super::{JobRequest, JobSnapshot, Jobs, RetryScope};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::commands::retries::StoredRetries;
use crate::domain::commands::trigger::Trigger;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::JobId;
use crate::services::access::caller::Caller;
use crate::services::commands::preflight::OnMismatch;
use crate::services::commands::retry::{requested_script, requested_steps};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::EndedIn;

impl Jobs {
    /// Submits a new job with the same work, for the agents of the old job's executions.
    ///
    /// # Errors
    /// 409 while an execution is open, if the job had secrets, or if no execution is left to retry.
    pub async fn retry(
        &self,
        caller: &Caller,
        id: JobId,
        scope: RetryScope,
        confirmation: Option<Confirmation>,
        idempotency_key: Option<String>,
    ) -> Result<JobSnapshot> {
        let job = self.get(caller, id).await?;
        if !job.progress.is_over() {
            return Err(ServiceError::Conflict {
                code: "job_running",
                detail: "the job is still running; wait for its end or cancel it, then retry"
                    .into(),
            });
        }
        if !job.row.secret_names.is_empty() {
            return Err(ServiceError::Conflict {
                code: "secrets_gone",
                detail: "the job had secret parameters, which are not stored; submit a new job"
                    .into(),
            });
        }
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let mut ids = tenant.agents_of_job(id, &scope.ended).await?;
        if let Some(wanted) = &scope.agent_ids {
            let wanted: HashSet<_> = wanted.iter().collect();
            ids.retain(|id| wanted.contains(id));
        }
        if ids.is_empty() {
            let detail = match (&scope.ended, &scope.agent_ids) {
                (EndedIn::NotSucceeded, None) => "every execution of the job succeeded",
                _ => "no execution of the job ended that way on these agents",
            };
            return Err(ServiceError::Conflict { code: "nothing_to_retry", detail: detail.into() });
        }
        let data: Value = serde_json::from_str(&job.row.data).unwrap_or(Value::Null);
        let request = JobRequest {
            script: requested_script(Some(job.row.script), &data),
            argv: data.get("argv").cloned(),
            steps: requested_steps(&data),
            file: data.get("file").cloned(),
            parameters: data.get("parameters").cloned(),
            secret_parameters: None,
            stdin: data.get("stdin").and_then(Value::as_str).map(str::to_owned),
            timeout_ms: data.get("timeout_ms").and_then(Value::as_u64),
            expires_in_ms: None,
            target: TargetSpec { ids: Some(ids), ..TargetSpec::default() },
            rollout: job.rollout.and_then(|rollout| serde_json::from_str(&rollout.row.spec).ok()),
            webhook_url: job.row.webhook_url,
            idempotency_key,
            trigger: Trigger::Retry,
            retry_of: Some(id),
            offline: OfflinePolicy::Wait,
            // The first job passed its preflight; now each host decides for itself.
            on_mismatch: OnMismatch::Send,
            confirmation,
            calendar_override: None,
            retries: job.row.retries.map(StoredRetries::spec),
            lock: job.row.lock,
        };
        self.submit(caller, request).await
    }
}
