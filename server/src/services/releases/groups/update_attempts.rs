//! One attempt to update an agent: its command, and how its outcome changes the agent's state.

use std::collections::{BTreeSet, HashMap};

use muster_protocol::CommandName;
use muster_protocol::limits::DEFAULT_TIMEOUT_MS;
use serde_json::{Value, json};

use super::Groups;
use crate::domain::commands::command_state::EndReason;
use crate::domain::commands::records::ReportRecord;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, AgentKeyId, CommandId};
use crate::domain::releases::group::UpdateState;
use crate::domain::releases::group::attempt::{
    AttemptOutcome, AttemptTransition, UpdateAttempt, evaluate_attempt,
};
use crate::domain::time::Timestamp;
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::StoreError;
use crate::store::entities::commands::command::NewCommand;
use crate::store::entities::releases::{agent_update, group};
use crate::store::queries::CommandWithReport;
use crate::store::writer::SubmitCommand;

/// The last attempt of each agent of a group.
pub(super) type Updates = HashMap<AgentId, agent_update::Model>;

/// How long the command of a group waits for a free slot on its agent. Short, because the agent was
/// connected a moment ago and its wave waits for it.
const EXPIRES_IN_MS: u64 = 2 * 60_000;

/// The command that requests an update. It is delivered like any other command.
pub(super) fn update_command(
    row: &group::Model,
    version: &str,
    update: &agent_update::Model,
    lost_after_ms: u64,
    now: Timestamp,
) -> SubmitCommand {
    let data = json!({"version": version});
    let command = NewCommand {
        id: update.command_id,
        tenant_id: row.tenant_id,
        agent_id: update.agent_id,
        name: CommandName::Update,
        data: data.to_string(),
        sealed_parameters: None,
        requested_by: row.requested_by,
        requested_from: None,
        created_at: now,
        expires_in_ms: EXPIRES_IN_MS,
        timeout_ms: DEFAULT_TIMEOUT_MS,
        lost_after_ms,
        job_id: None,
        script: None,
        trigger: Trigger::Group,
        retry_of: None,
        request_id: None,
        lock_name: None,
    }
    .into_row();
    let detail = json!({"command": "update", "agent_id": update.agent_id, "group_id": row.id, "version": version});
    let subject = Subject { kind: "command", id: command.id.0 };
    let audit = AuditAction {
        tenant_id: row.tenant_id,
        action: "command.submit",
        subject,
        detail: &detail,
        at: now,
    }
    .by_system();
    SubmitCommand { row: command, deliver_in_epoch: None, idempotency: None, audit, approval: None }
}

impl Groups {
    /// Evaluates the open attempts, and returns those whose state changes. `up_to_date`: the agents
    /// that run the desired version.
    pub(super) async fn evaluate_updates(
        &self,
        row: &group::Model,
        updates: &mut Updates,
        up_to_date: &BTreeSet<AgentId>,
        now: Timestamp,
    ) -> Result<Vec<agent_update::Model>, StoreError> {
        let open: Vec<_> = updates.values().filter(|update| is_open(update)).collect();
        let commands: Vec<CommandId> = open.iter().map(|update| update.command_id).collect();
        let agents: Vec<AgentId> = open.iter().map(|update| update.agent_id).collect();
        let tenant = self.store.tenant(row.tenant_id);
        let found = tenant.commands_by_id(&commands).await?;
        let found: HashMap<CommandId, CommandWithReport> =
            found.into_iter().map(|found| (found.command.id, found)).collect();
        let seen = tenant.agents_by_id(&agents).await?;
        let seen: HashMap<AgentId, (Timestamp, AgentKeyId)> =
            seen.into_iter().map(|row| (row.id, (row.last_seen_at, row.key_id))).collect();
        let mut changed = Vec::new();
        for update in updates.values_mut() {
            let transition = if is_open(update) {
                let seen = seen.get(&update.agent_id);
                let last_seen_at = seen.map_or(update.changed_at, |(at, _)| *at);
                let forbidden = forbidden(seen.map(|(_, key_id)| *key_id));
                let offline_since = self.presence.offline_since(update.agent_id, last_seen_at);
                let outcome = found.get(&update.command_id).map(|found| outcome(found, &forbidden));
                evaluate_attempt(attempt(update), outcome, offline_since, now)
            } else if up_to_date.contains(&update.agent_id) {
                attempt(update).up_to_date()
            } else {
                None
            };
            if let Some(transition) = transition {
                apply(update, transition, now);
                changed.push(update.clone());
            }
        }
        Ok(changed)
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
