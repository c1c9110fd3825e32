//! One attempt to update an agent: its command, and how its outcome changes the agent's state.

use std::collections::{BTreeSet, HashMap};

use muster_protocol::commands::probe::{self, PROBE, PROBE_TIMEOUT_MS};
use muster_protocol::limits::DEFAULT_TIMEOUT_MS;
use muster_protocol::{CommandName, error_chain};
use serde_json::{Value, json};

use super::Groups;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::records::ReportRecord;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, AgentKeyId, CommandId};
use crate::domain::releases::group::UpdateState;
use crate::domain::releases::group::attempt::{
    AttemptOutcome, AttemptTransition, UpdateAttempt, evaluate_attempt,
};
use crate::domain::releases::group::probe::{
    ProbeOutcome, begin, by_registration, evaluate_probe, restart,
};
use crate::domain::time::Timestamp;
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::StoreError;
use crate::store::entities::commands::command::NewCommand;
use crate::store::entities::fleet::agent;
use crate::store::entities::releases::{agent_update, group};
use crate::store::queries::{CommandWithReport, OutputStream};
use crate::store::writer::{SubmitCommand, Submitted};

/// The last attempt of each agent of a group.
pub(super) type Updates = HashMap<AgentId, agent_update::Model>;

/// How long the command of a group waits for a free slot on its agent. Short, because the agent was
/// connected a moment ago and its wave waits for it.
const EXPIRES_IN_MS: u64 = 2 * 60_000;
/// How long a no-op execution that was sent may go without a sign of its agent.
const PROBE_LOST_AFTER_MS: u64 = 60 * 60_000;

/// What differs between the commands that a group sends to an agent.
struct GroupCommand {
    id: CommandId,
    name: CommandName,
    data: Value,
    script: Option<&'static str>,
    timeout_ms: u64,
    lost_after_ms: u64,
}

/// The command that requests an update. It is delivered like any other command.
pub(super) fn update_command(
    row: &group::Model,
    version: &str,
    update: &agent_update::Model,
    lost_after_ms: u64,
    now: Timestamp,
) -> SubmitCommand {
    let command = GroupCommand {
        id: update.command_id,
        name: CommandName::Update,
        data: json!({"version": version}),
        script: None,
        timeout_ms: DEFAULT_TIMEOUT_MS,
        lost_after_ms,
    };
    let detail = json!({"command": "update", "agent_id": update.agent_id, "group_id": row.id, "version": version});
    command.submit(row, update, &detail, now)
}

/// The no-op execution of a canary. It is delivered like any other execution.
pub(super) fn probe_command(
    row: &group::Model,
    update: &agent_update::Model,
    id: CommandId,
    now: Timestamp,
) -> SubmitCommand {
    let command = GroupCommand {
        id,
        name: CommandName::Execute,
        data: json!({"script": PROBE}),
        script: Some(PROBE),
        timeout_ms: PROBE_TIMEOUT_MS,
        lost_after_ms: PROBE_LOST_AFTER_MS,
    };
    let detail = json!({"command": "execute", "script": PROBE, "agent_id": update.agent_id, "group_id": row.id});
    command.submit(row, update, &detail, now)
}

impl GroupCommand {
    fn submit(
        self,
        row: &group::Model,
        update: &agent_update::Model,
        detail: &Value,
        now: Timestamp,
    ) -> SubmitCommand {
        let command = NewCommand {
            id: self.id,
            tenant_id: row.tenant_id,
            agent_id: update.agent_id,
            name: self.name,
            data: self.data.to_string(),
            sealed_parameters: None,
            requested_by: row.requested_by,
            requested_from: None,
            created_at: now,
            expires_in_ms: EXPIRES_IN_MS,
            timeout_ms: self.timeout_ms,
            lost_after_ms: self.lost_after_ms,
            job_id: None,
            script: self.script.map(str::to_owned),
            trigger: Trigger::Group,
            retry_of: None,
            request_id: None,
            lock_name: None,
        }
        .into_row();
        let audit = AuditAction {
            tenant_id: row.tenant_id,
            action: "command.submit",
            subject: Subject { kind: "command", id: command.id.0 },
            detail,
            at: now,
        }
        .by_system();
        let (deliver_in_epoch, idempotency, approval) = (None, None, None);
        SubmitCommand { row: command, deliver_in_epoch, idempotency, audit, approval }
    }
}

/// What a round found out about the attempts of a group.
#[derive(Debug, Default)]
pub(super) struct EvaluatedUpdates {
    /// Those whose state changes.
    pub changed: Vec<agent_update::Model>,
    /// Canaries whose no-op execution was not stored yet.
    pub unsent_probes: Vec<agent_update::Model>,
}

impl Groups {
    /// Evaluates the open attempts. `up_to_date`: the agents that run the desired version.
    pub(super) async fn evaluate_updates(
        &self,
        row: &group::Model,
        updates: &mut Updates,
        up_to_date: &BTreeSet<AgentId>,
        now: Timestamp,
    ) -> Result<EvaluatedUpdates, StoreError> {
        let read = |update: &&agent_update::Model| is_open(update) || update.is_canary;
        let open: Vec<_> = updates.values().filter(read).collect();
        let of_update =
            |update: &&agent_update::Model| update.probe_command_id.unwrap_or(update.command_id);
        let commands: Vec<CommandId> = open.iter().map(of_update).collect();
        let agents: Vec<AgentId> = open.iter().map(|update| update.agent_id).collect();
        let tenant = self.store.tenant(row.tenant_id);
        let found = tenant.commands_by_id(&commands).await?;
        let found: HashMap<CommandId, CommandWithReport> =
            found.into_iter().map(|found| (found.command.id, found)).collect();
        let seen = tenant.agents_by_id(&agents).await?;
        let seen: HashMap<AgentId, agent::Model> =
            seen.into_iter().map(|row| (row.id, row)).collect();
        let mut evaluated = EvaluatedUpdates::default();
        for update in updates.values_mut() {
            let agent = seen.get(&update.agent_id);
            let last_seen_at = agent.map_or(update.changed_at, |row| row.last_seen_at);
            let offline_since = self.presence.offline_since(update.agent_id, last_seen_at);
            let is_up_to_date =
                agent.map(|row| row.version.as_str()) == row.desired_version.as_deref();
            let is_probed = update.probe_command_id.is_some();
            let transition = if let Some(id) = update.probe_command_id.filter(|_| is_open(update)) {
                let found = found.get(&id);
                let has_output = match found {
                    Some(found) if found.command.state == CommandState::Succeeded => {
                        tenant.output_end(id, OutputStream::Stdout).await? > 0
                    }
                    _ => false,
                };
                let outcome = found.map(|found| probe_outcome(found, has_output));
                let seen = (offline_since, is_up_to_date);
                let transition = evaluate_probe(attempt(update), outcome, seen, now);
                if transition.is_none() && found.is_none() {
                    evaluated.unsent_probes.push(update.clone());
                }
                transition
            } else if is_open(update) {
                let forbidden = forbidden(agent.map(|row| row.key_id));
                let outcome = found.get(&update.command_id).map(|found| outcome(found, &forbidden));
                evaluate_attempt(attempt(update), outcome, offline_since, now)
            } else if update.is_canary && is_probed && update.state == UpdateState::Pending {
                let is_due = update.due_at <= now && offline_since.is_none() && is_up_to_date;
                if is_due {
                    update.probe_command_id = Some(CommandId::new());
                }
                is_due.then(|| restart(attempt(update)))
            } else if up_to_date.contains(&update.agent_id) && !is_probed {
                attempt(update).up_to_date()
            } else {
                None
            };
            let Some(transition) = transition else { continue };
            let is_registered =
                transition.state == UpdateState::Done && update.is_canary && !is_probed;
            let transition = match is_registered {
                false => transition,
                // The version has registered. It must also run an execution.
                true if agent.is_some_and(runs_probes) => {
                    update.probe_command_id = Some(CommandId::new());
                    begin(attempt(update))
                }
                true => by_registration(attempt(update)),
            };
            apply(update, transition, now);
            evaluated.changed.push(update.clone());
        }
        Ok(evaluated)
    }

    /// Stores and sends the no-op executions of canaries, each under the id that its attempt names. One
    /// that is stored already is not stored again. False if the key that requests the updates of the group is
    /// revoked or has expired.
    pub(super) async fn request_probes(
        &self,
        row: &group::Model,
        updates: Vec<agent_update::Model>,
    ) -> Result<bool, StoreError> {
        for update in updates {
            let Some(id) = update.probe_command_id else { continue };
            let operation = probe_command(row, &update, id, self.clock.now());
            match self.store.writer().commit(operation).await {
                Ok(Submitted::KeyInvalid) => return Ok(false),
                Ok(_) => self.hub.announce_new(update.agent_id, id, true),
                Err(error) => {
                    let (agent_id, error) = (update.agent_id, error_chain(&error));
                    tracing::warn!(%agent_id, error, "failed to request a no-op execution");
                }
            }
        }
        Ok(true)
    }
}

/// True if an agent reports that it runs no-op executions.
fn runs_probes(agent: &agent::Model) -> bool {
    agent.capabilities.0.iter().any(|name| name == probe::CAPABILITY)
}

fn probe_outcome(found: &CommandWithReport, has_output: bool) -> ProbeOutcome<'_> {
    let report = found.report.as_ref();
    let reason = found.command.end_reason;
    let own = reason.map(EndReason::sentence);
    ProbeOutcome {
        state: found.command.state,
        has_output,
        is_forbidden: reason == Some(EndReason::PermissionRevoked),
        code: report.and_then(|report| report.error_code.as_deref()),
        message: report.and_then(|report| report.error.as_deref()).or(own),
    }
}

/// True while the result of the attempt is not known.
fn is_open(update: &agent_update::Model) -> bool {
    matches!(update.state, UpdateState::Updating | UpdateState::Unreachable)
}

pub(super) fn attempt(update: &agent_update::Model) -> UpdateAttempt {
    UpdateAttempt { state: update.state, tries: update.tries, at: update.changed_at }
}

/// Writes the new state into the row.
pub(super) fn apply(
    update: &mut agent_update::Model,
    transition: AttemptTransition,
    now: Timestamp,
) {
    let (code, message) = transition.problem.unzip();
    *update = agent_update::Model {
        state: transition.state,
        tries: transition.tries,
        due_at: transition.due_at,
        code,
        message,
        changed_at: now,
        ..update.clone()
    };
}

/// The problem of an agent whose key does not allow updates. Another key would make it another agent.
fn forbidden(key_id: Option<AgentKeyId>) -> String {
    let key = key_id.map_or_else(|| "KEY".to_owned(), |id| id.to_string());
    format!(
        "the agent's key does not allow `update`; allow it with `muster keys set {key} --add-permission update`"
    )
}

/// `forbidden`: the problem of an agent whose key does not allow updates.
fn outcome<'a>(found: &'a CommandWithReport, forbidden: &'a str) -> AttemptOutcome<'a> {
    let report = found.report.as_ref();
    // There is no report of a command that this server did not let through.
    let own = match found.command.end_reason {
        Some(EndReason::PermissionRevoked) => Some(("permission_denied", forbidden)),
        Some(reason @ (EndReason::ApiKeyInvalid | EndReason::OutsideKeyLimits)) => {
            Some((reason.as_str(), reason.sentence()))
        }
        _ => None,
    };
    let (code, message) = own.unzip();
    AttemptOutcome {
        state: found.command.state,
        has_update_result: report.is_some_and(has_update_result),
        code: code.or(report.and_then(|report| report.error_code.as_deref())),
        message: message.or(report.and_then(|report| report.error.as_deref())),
    }
}

fn has_update_result(report: &ReportRecord) -> bool {
    let data: Option<Value> = serde_json::from_str(&report.data).ok();
    data.is_some_and(|data| data.get("update_result").is_some())
}
