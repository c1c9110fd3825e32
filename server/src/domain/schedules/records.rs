//! What the API shows of stored rows, and the job that a schedule submits.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fire::{FireReason, FireState, ScheduleState};
use super::policy::{CatchUp, MissedPolicy, OverlapPolicy};
use super::rule::{DueTimes, RuleSpec};
use super::rule_error::RuleError;
use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::commands::retries::RetrySpec;
use crate::domain::commands::rollout::RolloutSpec;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{FireId, JobId, PrincipalId, ScheduleId, TenantId};
use crate::domain::time::Timestamp;

/// The job of each fire, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobTemplate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Instead of a script: a program and its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Value>,
    /// Instead of both: several of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    pub target: TargetSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    #[serde(default)]
    pub offline: OfflinePolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// The most agents that a fire may reach where the ladder asks for a confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_agent_count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetrySpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

impl JobTemplate {
    /// The scripts that it runs.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        let steps = self.steps.as_ref().and_then(Value::as_array).into_iter().flatten();
        let of_steps = steps.filter_map(|step| step.get("script").and_then(Value::as_str));
        self.script.as_deref().into_iter().chain(of_steps)
    }
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRecord {
    pub id: ScheduleId,
    pub tenant_id: TenantId,
    pub name: String,
    /// A [`RuleSpec`], JSON.
    pub rule: String,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    /// A [`JobTemplate`], JSON.
    pub job: String,
    pub state: ScheduleState,
    /// Why it is stopped, as a sentence; only while it is stopped.
    pub stop_reason: Option<String>,
    pub missed: MissedPolicy,
    pub max_catch_up: i32,
    pub late_limit_ms: i64,
    pub overlap: OverlapPolicy,
    pub jitter_ms: i64,
    /// With whose rights its jobs run: who created, changed or enabled it last.
    pub owner_id: PrincipalId,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// All due times up to here are decided.
    pub handled_until: Timestamp,
    /// Only while it is active.
    pub next_due_at: Option<Timestamp>,
    /// Due times before this instant are skipped.
    pub snoozed_until: Option<Timestamp>,
    /// Where the result of each job is sent.
    pub webhook_url: Option<String>,
    /// Secret parameters of its jobs, sealed under the master key.
    pub sealed_parameters: Option<Vec<u8>>,
    pub secret_names: Vec<String>,
}

impl ScheduleRecord {
    /// Its due times.
    ///
    /// # Errors
    /// [`RuleError`] if a newer version stored a rule that this one does not know.
    pub fn due_times(&self) -> Result<DueTimes, RuleError> {
        let spec: RuleSpec = serde_json::from_str(&self.rule).unwrap_or_default();
        DueTimes::new(&spec, self.starts_at, self.ends_at)
    }

    /// How it treats missed fires.
    pub fn catch_up(&self) -> CatchUp {
        CatchUp {
            missed: self.missed,
            max_catch_up: self.max_catch_up.unsigned_abs(),
            late_limit_ms: self.late_limit_ms.unsigned_abs(),
        }
    }
}

/// A due time, planned and actual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FireRecord {
    pub id: FireId,
    pub schedule_id: ScheduleId,
    pub due_at: Timestamp,
    /// The due time with its jitter.
    pub planned_at: Timestamp,
    /// A person asked for it; it is not a due time of the rule.
    pub is_manual: bool,
    pub is_missed: bool,
    pub state: FireState,
    pub reason: Option<FireReason>,
    pub detail: Option<String>,
    pub job_id: Option<JobId>,
    /// When its job was created, which starts it.
    pub fired_at: Option<Timestamp>,
    /// When its job ended, where it was read.
    pub ended_at: Option<Timestamp>,
    pub recorded_at: Timestamp,
    /// Missed due times right before this one that have no record.
    pub omitted_before: i64,
}
