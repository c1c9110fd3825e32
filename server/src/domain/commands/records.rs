//! What the API shows of stored rows: plain data, without hashes, sealed values and columns that only
//! the store needs. The entities convert their rows.

use super::command_state::{CommandState, EndReason};
use super::job_state::{JobState, Stop};
use super::retries::StoredRetries;
use super::trigger::Trigger;
use crate::domain::ids::{AgentId, CommandId, JobId, PrincipalId};
use crate::domain::time::Timestamp;

/// A durable command, without its secret parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRecord {
    pub id: CommandId,
    pub agent_id: AgentId,
    pub command: String,
    /// JSON.
    pub data: String,
    pub state: CommandState,
    pub end_reason: Option<EndReason>,
    pub requested_by: PrincipalId,
    /// Address of the caller.
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub timeout_ms: i64,
    /// How long its agent may be away, once it has the command, before the command is lost.
    pub lost_after_ms: i64,
    pub delivered_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub cancel_requested_at: Option<Timestamp>,
    /// The job that this execution belongs to.
    pub job_id: Option<JobId>,
    /// Wave of the rollout, counted from 1.
    pub wave: Option<i32>,
    /// Queued, and not sent until its rollout lifts the hold. Has no meaning once the command ended.
    pub is_held: bool,
    /// Script of an `execute`, empty for an ad-hoc command. `None` for every other command.
    pub script: Option<String>,
    pub trigger: Trigger,
    /// Of an execution that is run again by itself, counted from 1.
    pub attempt: i32,
    /// The execution that this one runs again.
    pub retry_of: Option<CommandId>,
    /// The execution that runs this one again.
    pub retried_as: Option<CommandId>,
    /// When the next attempt may be sent.
    pub not_before: Option<Timestamp>,
    /// Of the commands of an agent with the same lock, one at a time is sent.
    pub lock: Option<String>,
    /// It was requested with secret parameters.
    pub has_secrets: bool,
    /// The id of the request that asked for it, for logs.
    pub request_id: Option<String>,
    /// How far its steps are, as the agent reported before their end: JSON.
    pub step_progress: Option<String>,
}

/// The report of an agent about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRecord {
    /// True if it arrived after the command had ended.
    pub is_late: bool,
    pub outcome: CommandState,
    /// JSON.
    pub data: String,
    pub error: Option<String>,
    pub error_code: Option<String>,
    pub reported_at: Timestamp,
    /// What the agent signed, JSON with the document as text; `None` from basic agents.
    pub attestation: Option<String>,
}

/// A job. Its executions are commands with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    pub id: JobId,
    /// Empty for an ad-hoc command, which is in `data`.
    pub script: String,
    /// The data of each `execute`, JSON.
    pub data: String,
    /// Names of its secret parameters.
    pub secret_names: Vec<String>,
    /// The target as requested, JSON.
    pub target: String,
    /// Number of executions at its start.
    pub agent_count: i64,
    pub requested_by: PrincipalId,
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub state: JobState,
    /// When the last execution ended, after all have.
    pub finished_at: Option<Timestamp>,
    /// How a person ended it early.
    pub stop: Option<Stop>,
    pub webhook_url: Option<String>,
    /// The job that this one retries.
    pub retry_of: Option<JobId>,
    /// How often each execution is run again by itself.
    pub retries: Option<StoredRetries>,
    pub lock: Option<String>,
}

/// The progress of a job in waves, which are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// The requested rollout, JSON.
    pub spec: String,
    /// The current wave.
    pub wave: i32,
    pub wave_count: i32,
    /// When the server noted that every execution of the wave had ended.
    pub wave_ended_at: Option<Timestamp>,
    /// Why it halted, as a sentence; only while it is halted.
    pub halt_reason: Option<String>,
}
