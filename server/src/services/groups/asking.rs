//! One agent of a wave: it is asked by a command like any other, and what came of that is judged.

use std::collections::HashMap;

use muster_protocol::CommandName;
use muster_protocol::limits::DEFAULT_TIMEOUT_MS;
use serde_json::json;

use super::Groups;
use crate::domain::group::{UpdateState, retry_at};
use crate::domain::ids::{AgentId, AuditId, CommandId};
use crate::domain::state::CommandState;
use crate::domain::time::Timestamp;
use crate::domain::trigger::Trigger;
use crate::store::StoreError;
use crate::store::entities::column::ActorKind;
use crate::store::entities::{agent_update, audit_entry, command, group};
use crate::store::queries::CommandWithReport;
use crate::store::writer::SubmitCommand;

/// How long a command of a group waits for its agent, which was connected a moment ago.
const EXPIRES_IN_MS: u64 = 5 * 60_000;
/// How long an agent may take for a verdict: a download, a trial and a way back, each at its longest.
const VERDICT_MS: u64 = 40 * 60_000;
/// Reasons that are not the release's, nor for good.
const PASSING: [&str; 2] = ["server_away", "update_under_way"];

impl Groups {
    /// Stores the command; it leaves like any other.
    pub(super) async fn ask(
        &self,
        row: &group::Model,
        wanted: &str,
        update: &agent_update::Model,
        now: Timestamp,
    ) -> Result<(), StoreError> {
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
            requested_by: row.wanted_by,
            requested_from: None,
            created_at: now,
            expires_at: now.plus_ms(EXPIRES_IN_MS),
            timeout_ms: DEFAULT_TIMEOUT_MS.cast_signed(),
            lost_after_ms: self.settings.lost_after_ms.cast_signed(),
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
        let operation =
            SubmitCommand { row: command, deliver_in_epoch: None, idempotency: None, audit };
        self.store.writer().commit(operation).await?;
        self.hub.moved(update.command_id);
        self.hub.wake(update.agent_id);
        Ok(())
    }

    /// Looks what came of those that were asked; which of them have moved.
    pub(super) async fn settle(
        &self,
        row: &group::Model,
        updates: &mut HashMap<AgentId, agent_update::Model>,
        now: Timestamp,
    ) -> Result<Vec<agent_update::Model>, StoreError> {
        let asked: Vec<CommandId> = updates
            .values()
            .filter(|update| update.state == UpdateState::Updating)
            .map(|update| update.command_id)
            .collect();
        let tenant = self.store.tenant(row.tenant_id);
        let found = tenant.commands_by_id(&asked).await?;
        let found: HashMap<CommandId, CommandWithReport> =
            found.into_iter().map(|found| (found.command.id, found)).collect();
        let mut moved = Vec::new();
        for update in updates.values_mut().filter(|u| u.state == UpdateState::Updating) {
            if judge(update, found.get(&update.command_id), now) {
                update.changed_at = now;
                moved.push(update.clone());
            }
        }
        Ok(moved)
    }
}

/// Says where an agent is by what became of its command; true if that is somewhere else.
fn judge(
    update: &mut agent_update::Model,
    found: Option<&CommandWithReport>,
    now: Timestamp,
) -> bool {
    let Some(CommandWithReport { command, report }) = found else {
        // The server ended before it was stored.
        update.state = UpdateState::Pending;
        update.tries -= 1;
        return true;
    };
    let report = report.as_ref();
    let code = report.and_then(|report| report.error_code.clone());
    let message = report.and_then(|report| report.error.clone());
    match command.state {
        CommandState::Queued | CommandState::Delivered | CommandState::Running => {
            if now.ms_since(update.changed_at) <= VERDICT_MS {
                return false;
            }
            let told = "nothing was heard of the update for too long";
            fail(update, "no_verdict", told.to_owned());
        }
        CommandState::Succeeded => update.state = UpdateState::Done,
        // It went away before it was sent the command.
        CommandState::Expired => {
            update.state = UpdateState::Pending;
            update.tries -= 1;
        }
        state => {
            let code = code.unwrap_or_else(|| state.as_str().to_owned());
            let message = message.unwrap_or_else(|| format!("the update was {}", state.as_str()));
            match retry_at(update.tries, now).filter(|_| PASSING.contains(&code.as_str())) {
                Some(due_at) => {
                    update.state = UpdateState::Pending;
                    update.due_at = due_at;
                    (update.code, update.message) = (Some(code), Some(message));
                }
                None => fail(update, &code, message),
            }
        }
    }
    true
}

fn fail(update: &mut agent_update::Model, code: &str, message: String) {
    update.state = UpdateState::Failed;
    (update.code, update.message) = (Some(code.to_owned()), Some(message));
}
