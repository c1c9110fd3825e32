//! The body of a webhook: how a job ended. It never contains parameters or output. From hosts it
//! contains names, exit codes and error codes. Error codes are reported by hosts, so control
//! characters are removed and the text is cut to 64 characters.

use serde::Serialize;
use serde_json::Value;

use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{AgentId, CommandId, JobId, PrincipalId};
use crate::domain::integrations::webhook::JOB_FINISHED;
use crate::domain::time::Timestamp;
use crate::store::entities::commands::job;
use crate::store::queries::{FailedExecution, JobProgress};

/// Most executions in a message.
pub const MAX_FAILED: u64 = 100;

/// The body of a message, in the form of the Standard Webhooks specification.
#[derive(Debug, Serialize)]
pub struct WebhookPayload {
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the event happened.
    timestamp: Timestamp,
    data: FinishedJob,
}

#[derive(Debug, Serialize)]
struct FinishedJob {
    id: JobId,
    script: String,
    state: JobState,
    counts: serde_json::Map<String, Value>,
    agent_count: i64,
    requested_by: PrincipalId,
    created_at: Timestamp,
    finished_at: Timestamp,
    /// The first [`MAX_FAILED`] executions that did not succeed.
    failed_executions: Vec<Failed>,
    /// True if there are more.
    is_cut: bool,
}

#[derive(Debug, Serialize)]
struct Failed {
    id: CommandId,
    agent_id: AgentId,
    agent_name: Option<String>,
    state: CommandState,
    exit_code: Option<i64>,
    error_code: Option<String>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl WebhookPayload {
    /// `failed` has one item more than [`MAX_FAILED`] if there are more.
    pub fn new(
        job: job::Model,
        progress: &JobProgress,
        finished_at: Timestamp,
        mut failed: Vec<FailedExecution>,
    ) -> Self {
        let is_cut = failed.len() as u64 > MAX_FAILED;
        failed.truncate(MAX_FAILED as usize);
        let counts = progress.counts.iter();
        Self {
            kind: JOB_FINISHED,
            timestamp: finished_at,
            data: FinishedJob {
                id: job.id,
                script: job.script,
                state: job.state,
                counts: counts.map(|(state, n)| (state.as_str().to_owned(), (*n).into())).collect(),
                agent_count: job.agent_count,
                requested_by: job.requested_by,
                created_at: job.created_at,
                finished_at,
                failed_executions: failed.into_iter().map(Failed::from).collect(),
                is_cut,
            },
        }
    }
}

impl WebhookPayload {
    /// The job alone, for the events of integrations.
    pub fn into_job(self) -> Value {
        let duration_ms = self.data.finished_at.ms_since(self.data.created_at);
        let mut job = serde_json::to_value(self.data).unwrap_or_default();
        job["duration_ms"] = duration_ms.into();
        job
    }
}

impl From<FailedExecution> for Failed {
    fn from(failed: FailedExecution) -> Self {
        let FailedExecution { command, agent_name, report } = failed;
        let report = report.filter(|report| !report.is_late);
        let data: Option<Value> =
            report.as_ref().and_then(|report| serde_json::from_str(&report.data).ok());
        let reported = report.and_then(|report| report.error_code);
        let own = command.end_reason.map(|reason| reason.as_str().to_owned());
        Self {
            id: command.id,
            agent_id: command.agent_id,
            agent_name,
            state: command.state,
            exit_code: data.as_ref().and_then(|data| data.get("exit_code")?.as_i64()),
            error_code: reported.or(own),
            started_at: command.started_at,
            finished_at: command.finished_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::commands::trigger::Trigger;
    use crate::domain::ids::TenantId;
    use crate::store::entities::commands::{command, command_report};
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn execution() -> command::Model {
        command::Model {
            id: CommandId::new(),
            tenant_id: TenantId::new(),
            agent_id: AgentId::new(),
            command: "execute".into(),
            data: "{\"parameters\":{\"A\":\"parameter-text\"}}".into(),
            sealed_parameters: Some(b"sealed-text".to_vec()),
            state: CommandState::Failed,
            end_reason: None,
            requested_by: PrincipalId(Uuid::nil()),
            requested_from: None,
            created_at: NOW,
            expires_at: NOW,
            timeout_ms: 1,
            lost_after_ms: 1,
            delivered_at: None,
            started_at: Some(NOW),
            finished_at: Some(NOW),
            cancel_requested_at: None,
            job_id: None,
            wave: None,
            is_held: false,
            script: Some("hello".into()),
            trigger: Trigger::Api,
            capsule: None,
            attempt: 1,
            retry_of: None,
            retried_as: None,
            retried_job_id: None,
            not_before: None,
            lock_name: None,
            has_secrets: false,
            request_id: None,
            step_progress: None,
            max_log_bytes: None,
        }
    }

    #[test]
    fn a_message_contains_only_the_codes_of_a_hosts_report() {
        let row = execution();
        let report = command_report::Model {
            command_id: row.id,
            is_late: false,
            outcome: CommandState::Failed,
            data: "{\"exit_code\":3,\"note\":\"data-text\"}".into(),
            error: Some("error-text".into()),
            error_code: Some("code of the host's own".into()),
            reported_at: NOW,
            attestation: None,
        };
        let agent_name = Some("web-1".to_owned());
        let failed = Failed::from(FailedExecution {
            command: row.into(),
            agent_name,
            report: Some(report.into()),
        });
        let payload = serde_json::to_value(failed).expect("JSON");
        assert_eq!(payload["exit_code"], 3);
        assert_eq!(payload["error_code"], "code of the host's own");
        assert_eq!(payload["agent_name"], "web-1");
        for absent in ["data-text", "error-text", "parameter-text", "sealed-text"] {
            assert!(!payload.to_string().contains(absent), "{absent} in {payload}");
        }
    }
}
