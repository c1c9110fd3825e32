//! Bodies and views of schedules.

use muster_protocol::object::Object;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::commands::retries::RetrySpec;
use crate::domain::commands::rollout::RolloutSpec;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{FireId, JobId, PrincipalId, ScheduleId};
use crate::domain::schedules::fire::{FireReason, FireState, ScheduleState};
use crate::domain::schedules::policy::{MissedPolicy, OverlapPolicy};
use crate::domain::schedules::records::{FireRecord, JobTemplate};
use crate::domain::schedules::rule::{PreviewedFire, RuleSpec};
use crate::domain::time::Timestamp;
use crate::http::commands::jobs::WebhookBody;
use crate::http::commands::steps::StepBody;
use crate::http::views::{shown_webhook, stored_json};
use crate::services::access::caller::Caller;
use crate::services::schedules::{RulePreview, ScheduleRequest, ScheduleSnapshot};

/// Changes to a schedule. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleBody {
    name: Option<String>,
    #[schema(value_type = Option<RuleSpec>)]
    rule: Option<Object<RuleSpec>>,
    /// Not due before this instant; `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    starts_at: Option<Option<Timestamp>>,
    /// Not due at this instant or later; `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    ends_at: Option<Option<Timestamp>>,
    #[schema(value_type = Option<ScheduledJob>)]
    job: Option<Object<ScheduledJob>>,
    /// Which fires get a job that the server did not get to in time: `skip` (none), `once` (one for all
    /// of them, the default) or `all` (the newest, up to `max_catch_up`).
    missed: Option<MissedPolicy>,
    /// Most missed fires that `all` runs: at most 100, default 10.
    max_catch_up: Option<u32>,
    /// A fire that can't start within this time is skipped: at most 366 days, default 24 h.
    late_limit_ms: Option<u64>,
    /// What a fire does while the previous job has not ended: `skip` (default), `allow`, `queue` or
    /// `cancel_previous`.
    overlap: Option<OverlapPolicy>,
    /// Delays each fire by up to this time, always by the same for the same due time: at most 24 h,
    /// default 0.
    jitter_ms: Option<u64>,
    /// Where the result of each job is sent, as for a job; `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<WebhookBody>)]
    webhook: Option<Option<Object<WebhookBody>>>,
    /// Secret parameters of each job, an object of texts; never shown again; `null` removes them. They need a
    /// target of ids or tags, and must be given again with another job.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    secret_parameters: Option<Option<Value>>,
}

/// The job that each fire submits. Send exactly one of `script`, `argv` and `steps`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduledJob {
    /// Name of a script in the hosts' manifests.
    script: Option<String>,
    /// A program and its arguments. Needs hosts with the policy `shell` and the scope `commands:shell`.
    #[schema(value_type = Option<Vec<String>>)]
    argv: Option<Value>,
    /// 1 to 20 scripts and ad-hoc commands, which run one after the other on each agent.
    #[schema(value_type = Option<Vec<StepBody>>)]
    steps: Option<Value>,
    /// Object of strings.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Resolved at each fire.
    #[schema(value_type = TargetSpec)]
    target: Object<TargetSpec>,
    /// Runs the job in waves. Without it, all executions start at once.
    #[schema(value_type = Option<RolloutSpec>)]
    rollout: Option<Object<RolloutSpec>>,
    /// What a fire does about agents that are offline then. With `fail`, it starts nothing. A rollout sets
    /// `rollout.offline` instead of `skip`.
    #[serde(default)]
    offline: OfflinePolicy,
    /// How long one execution may run: at most 7 days, default 1 h.
    timeout_ms: Option<u64>,
    /// How long an execution waits for its agent: at most 30 days, default 24 h.
    expires_in_ms: Option<u64>,
    /// The most agents that a fire may reach. Needed where the ladder of the tenant asks for a
    /// confirmation; a fire that would reach more agents is refused. Default: no bound.
    confirm_agent_count: Option<u64>,
    /// Runs an execution again that failed or reached its timeout. Each attempt is an execution of its own;
    /// the job counts the last one of each agent.
    #[schema(value_type = Option<RetrySpec>)]
    retries: Option<Object<RetrySpec>>,
    /// Of the executions that name the same lock on one agent, one runs at a time: 1 to 64 letters, digits,
    /// `.`, `_` and `-`.
    lock: Option<String>,
}

/// A rule that is not stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RulePreviewBody {
    #[schema(value_type = RuleSpec)]
    pub rule: Object<RuleSpec>,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    /// Due times to compute: 1 to 100, default 10.
    pub count: Option<u64>,
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScheduleView {
    id: ScheduleId,
    name: String,
    #[schema(value_type = RuleSpec)]
    rule: Value,
    /// The rule as a sentence.
    #[schema(example = "every weekday at 09:00, Europe/Berlin")]
    sentence: String,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    #[schema(value_type = ScheduledJob)]
    job: Value,
    state: ScheduleState,
    /// Why it is stopped, and what to do.
    stop_reason: Option<String>,
    missed: MissedPolicy,
    max_catch_up: i32,
    late_limit_ms: i64,
    overlap: OverlapPolicy,
    jitter_ms: i64,
    /// With whose rights its jobs run: who created, changed or enabled it last.
    owner_id: PrincipalId,
    /// Current name of the owner; `null` in the answer to a change.
    owner_name: Option<String>,
    created_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
    /// `null` unless it is active.
    next_due_at: Option<Timestamp>,
    /// Due times before this instant are skipped.
    snoozed_until: Option<Timestamp>,
    /// Address of the webhook of its jobs, without the query. Others than its owner see the host, unless they
    /// have `commands:manage` or `webhooks:write`.
    webhook_url: Option<String>,
    /// Names of the secret parameters of its jobs.
    secret_parameter_names: Vec<String>,
}

/// A due time, planned and actual.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FireView {
    id: FireId,
    due_at: Timestamp,
    /// The due time with its jitter.
    planned_at: Timestamp,
    /// When its job was created, which starts it.
    fired_at: Option<Timestamp>,
    /// When its job ended; `null` before.
    ended_at: Option<Timestamp>,
    /// From `fired_at` to `ended_at`.
    duration_ms: Option<u64>,
    state: FireState,
    /// Why it has no job.
    reason: Option<FireReason>,
    detail: Option<String>,
    job_id: Option<JobId>,
    /// A person asked for it; it is not a due time of the rule.
    is_manual: bool,
    /// The server got to it late.
    is_missed: bool,
    /// Missed due times right before this one that are not listed.
    omitted_before: i64,
    recorded_at: Timestamp,
}

/// The next due times.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RulePreviewView {
    /// The rule as a sentence.
    #[schema(example = "every weekday at 09:00, Europe/Berlin")]
    sentence: String,
    items: Vec<PreviewedFire>,
}

/// How to run a schedule now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunBody {
    /// Why it starts although a calendar holds it back: 1 to 200 characters, for the audit log.
    pub calendar_override: Option<String>,
    /// Main of a script with a trigger runs without the trigger.
    #[serde(default)]
    pub force: bool,
}

/// How long to snooze a schedule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SnoozeBody {
    /// Due times before this instant are skipped; `null` or nothing ends that.
    pub until: Option<Timestamp>,
}

/// What to simulate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SimulateBody {
    /// One schedule, enabled or not. Default: all that are active.
    pub schedule_id: Option<ScheduleId>,
    /// Default: now.
    pub from: Option<Timestamp>,
    /// How far to look: up to 731 days, default 30 days.
    pub for_ms: Option<u64>,
}

/// The job of a schedule that was run now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunView {
    pub job_id: JobId,
}

/// Distinguishes `null` from a missing field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ScheduledJob> for JobTemplate {
    fn from(job: ScheduledJob) -> Self {
        Self {
            script: job.script,
            argv: job.argv,
            steps: job.steps,
            parameters: job.parameters,
            target: job.target.0,
            rollout: job.rollout.map(|rollout| rollout.0),
            offline: job.offline,
            timeout_ms: job.timeout_ms,
            expires_in_ms: job.expires_in_ms,
            confirm_agent_count: job.confirm_agent_count,
            retries: job.retries.map(|retries| retries.0),
            lock: job.lock,
        }
    }
}

impl From<ScheduleBody> for ScheduleRequest {
    fn from(body: ScheduleBody) -> Self {
        Self {
            name: body.name,
            rule: body.rule.map(|rule| rule.0),
            starts_at: body.starts_at,
            ends_at: body.ends_at,
            job: body.job.map(|job| job.0.into()),
            missed: body.missed,
            max_catch_up: body.max_catch_up,
            late_limit_ms: body.late_limit_ms,
            overlap: body.overlap,
            jitter_ms: body.jitter_ms,
            secret_parameters: body.secret_parameters,
            webhook_url: body.webhook.map(|webhook| webhook.map(|webhook| webhook.0.url)),
        }
    }
}

impl ScheduleView {
    pub(super) fn new(schedule: ScheduleSnapshot, caller: &Caller) -> Self {
        let ScheduleSnapshot { row, sentence, owner_name } = schedule;
        let is_own = row.owner_id == caller.principal.id;
        let webhook_url = row.webhook_url.map(|url| shown_webhook(&url, caller, is_own));
        Self {
            id: row.id,
            name: row.name,
            rule: stored_json(&row.rule),
            sentence,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
            job: stored_json(&row.job),
            state: row.state,
            stop_reason: row.stop_reason,
            missed: row.missed,
            max_catch_up: row.max_catch_up,
            late_limit_ms: row.late_limit_ms,
            overlap: row.overlap,
            jitter_ms: row.jitter_ms,
            owner_id: row.owner_id,
            owner_name,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
            next_due_at: row.next_due_at,
            snoozed_until: row.snoozed_until,
            webhook_url,
            secret_parameter_names: row.secret_names,
        }
    }
}

impl From<FireRecord> for FireView {
    fn from(fire: FireRecord) -> Self {
        Self {
            id: fire.id,
            due_at: fire.due_at,
            planned_at: fire.planned_at,
            fired_at: fire.fired_at,
            ended_at: fire.ended_at,
            duration_ms: fire.ended_at.zip(fire.fired_at).map(|(end, start)| end.ms_since(start)),
            state: fire.state,
            reason: fire.reason,
            detail: fire.detail,
            job_id: fire.job_id,
            is_manual: fire.is_manual,
            is_missed: fire.is_missed,
            omitted_before: fire.omitted_before,
            recorded_at: fire.recorded_at,
        }
    }
}

impl From<RulePreview> for RulePreviewView {
    fn from(preview: RulePreview) -> Self {
        Self { sentence: preview.sentence, items: preview.fires }
    }
}
