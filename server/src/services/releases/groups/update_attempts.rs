//! One agent of a wave: it is asked by a command like any other, and looked after until that has ended.

use std::collections::{BTreeSet, HashMap};

use muster_protocol::CommandName;
use muster_protocol::limits::DEFAULT_TIMEOUT_MS;
use serde_json::{Value, json};

use super::Groups;
use crate::domain::access::principal::ActorKind;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, AuditId, CommandId};
use crate::domain::releases::group::UpdateState;
use crate::domain::releases::group::attempt::{Asked, Told, Transition, judge};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{command, command_report};
use crate::store::entities::releases::{agent_update, group};
use crate::store::queries::CommandWithReport;
use crate::store::writer::SubmitCommand;

/// How long a command of a group waits for a place among its agent's jobs. The agent was connected a
/// moment ago, and its wave waits for it.
const EXPIRES_IN_MS: u64 = 2 * 60_000;

/// Of an agent that may not be asked.
const FORBIDDEN: &str =
    "its agent key does not allow `update`; give the host a key that does (deploy.sh --key)";

/// The command that asks an agent; it leaves like any other.
pub(super) fn command(
    row: &group::Model,
    wanted: &str,
    update: &agent_update::Model,
    lost_after_ms: u64,
    now: Timestamp,
) -> SubmitCommand {
    let data = json!({"version": wanted});
    let command = command::Model {
        id: update.command_id,
        tenant_id: row.tenant_id,
        agent_id: update.agent_id,
        command: CommandName::Update.as_str().to_owned(),
        data: data.to_string(),
        sealed_parameters: None,
        state: CommandState::Queued,
        end_reason: None,
        requested_by: row.requested_by,
        requested_from: None,
        created_at: now,
        expires_at: now.plus_ms(EXPIRES_IN_MS),
        timeout_ms: DEFAULT_TIMEOUT_MS.cast_signed(),
        lost_after_ms: lost_after_ms.cast_signed(),
        delivered_at: None,
        started_at: None,
        finished_at: None,
        cancel_requested_at: None,
        job_id: None,
        wave: None,
        is_held: false,
        script: None,
        trigger: Trigger::Group,
    };
    let detail = json!({"command": "update", "agent_id": update.agent_id, "group_id": row.id, "version": wanted});
    let audit = audit_entry::Model {
        id: AuditId::new(),
        tenant_id: row.tenant_id,
        at: now,
        actor_kind: ActorKind::System,
        actor_id: None,
        action: "command.submit".to_owned(),
        subject_kind: "command".to_owned(),
        subject_id: Some(command.id.0),
        detail: detail.to_string(),
        source: None,
    };
    SubmitCommand { row: command, deliver_in_epoch: None, idempotency: None, audit }
}

impl Groups {
    /// Looks what came of those that were asked; which of them have moved. `there`: those that are of the
    /// wanted version.
    pub(super) async fn settle(
        &self,
        row: &group::Model,
        updates: &mut HashMap<AgentId, agent_update::Model>,
        there: &BTreeSet<AgentId>,
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
        let seen: HashMap<AgentId, Timestamp> =
            seen.into_iter().map(|agent| (agent.id, agent.last_seen_at)).collect();
        let mut moved = Vec::new();
        for update in updates.values_mut() {
            let judgement = if is_open(update) {
                let last_seen_at = seen.get(&update.agent_id).copied().unwrap_or(update.changed_at);
                let offline_since = self.presence.offline_since(update.agent_id, last_seen_at);
                let told = found.get(&update.command_id).map(told);
                judge(asked(update), told, offline_since, now)
            } else if there.contains(&update.agent_id) {
                asked(update).arrived()
            } else {
                None
            };
            if let Some(judgement) = judgement {
                note(update, judgement, now);
                moved.push(update.clone());
            }
        }
        Ok(moved)
    }
}

/// It was asked, and what came of it is not told.
pub(super) fn is_open(update: &agent_update::Model) -> bool {
    matches!(update.state, UpdateState::Updating | UpdateState::Unreachable)
}

/// How an agent was asked.
pub(super) fn asked(update: &agent_update::Model) -> Asked {
    Asked { state: update.state, tries: update.tries, at: update.changed_at }
}

/// Notes where an agent is now.
pub(super) fn note(update: &mut agent_update::Model, judgement: Transition, now: Timestamp) {
    let (code, message) = judgement.trouble.unzip();
    *update = agent_update::Model {
        state: judgement.state,
        tries: judgement.tries,
        due_at: judgement.due_at,
        code,
        message,
        changed_at: now,
        ..update.clone()
    };
}

fn told(found: &CommandWithReport) -> Told<'_> {
    let report = found.report.as_ref();
    // Of one that this server has not let through there is no report.
    let is_forbidden = found.command.end_reason == Some(EndReason::PermissionRevoked);
    let own = is_forbidden.then_some(("permission_denied", FORBIDDEN));
    let (code, message) = own.unzip();
    Told {
        state: found.command.state,
        has_update_result: report.is_some_and(has_update_result),
        code: code.or(report.and_then(|report| report.error_code.as_deref())),
        message: message.or(report.and_then(|report| report.error.as_deref())),
    }
}

fn has_update_result(report: &command_report::Model) -> bool {
    let data: Option<Value> = serde_json::from_str(&report.data).ok();
    data.is_some_and(|data| data.get("update_result").is_some())
}
