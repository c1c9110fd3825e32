//! One agent of a wave: it is asked by a command like any other, and looked after until that has ended.

use std::collections::HashMap;

use muster_protocol::CommandName;
use muster_protocol::limits::DEFAULT_TIMEOUT_MS;
use serde_json::json;

use super::Groups;
use super::judging::judge;
use crate::domain::group::UpdateState;
use crate::domain::ids::{AgentId, AuditId, CommandId};
use crate::domain::state::CommandState;
use crate::domain::time::Timestamp;
use crate::domain::trigger::Trigger;
use crate::store::StoreError;
use crate::store::entities::column::ActorKind;
use crate::store::entities::{agent_update, audit_entry, command, group};
use crate::store::queries::CommandWithReport;
use crate::store::writer::{Pending, SubmitCommand, Submitted};

/// How long a command of a group waits for its agent, which was connected a moment ago.
const EXPIRES_IN_MS: u64 = 5 * 60_000;

impl Groups {
    /// Queues the command to be stored; once it is, [`Groups::asked`] lets it leave like any other.
    pub(super) async fn ask(
        &self,
        row: &group::Model,
        wanted: &str,
        update: &agent_update::Model,
    ) -> Result<Pending<Submitted>, StoreError> {
        // A wave that waits for its turn to be written is not late before it is asked.
        let now = self.clock.now();
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
        self.store.writer().enqueue(operation).await
    }

    /// The command is stored.
    pub(super) fn asked(&self, update: &agent_update::Model) {
        self.hub.moved(update.command_id);
        self.hub.wake(update.agent_id);
    }

    /// Looks what came of those that were asked; which of them have moved.
    pub(super) async fn settle(
        &self,
        row: &group::Model,
        updates: &mut HashMap<AgentId, agent_update::Model>,
        now: Timestamp,
    ) -> Result<Vec<agent_update::Model>, StoreError> {
        let is_open = |update: &agent_update::Model| {
            matches!(update.state, UpdateState::Updating | UpdateState::Away)
        };
        let asked: Vec<_> = updates.values().filter(|update| is_open(update)).collect();
        let commands: Vec<CommandId> = asked.iter().map(|update| update.command_id).collect();
        let agents: Vec<AgentId> = asked.iter().map(|update| update.agent_id).collect();
        let tenant = self.store.tenant(row.tenant_id);
        let found = tenant.commands_by_id(&commands).await?;
        let found: HashMap<CommandId, CommandWithReport> =
            found.into_iter().map(|found| (found.command.id, found)).collect();
        let seen = tenant.agents_by_id(&agents).await?;
        let seen: HashMap<AgentId, Timestamp> =
            seen.into_iter().map(|agent| (agent.id, agent.last_seen_at)).collect();
        let mut moved = Vec::new();
        for update in updates.values_mut().filter(|update| is_open(update)) {
            let last_seen_at = seen.get(&update.agent_id).copied().unwrap_or(update.changed_at);
            let offline_since = self.presence.offline_since(update.agent_id, last_seen_at);
            let told = found
                .get(&update.command_id)
                .map(|found| (found.command.state, found.report.as_ref()));
            if judge(update, told, offline_since, now) {
                update.changed_at = now;
                moved.push(update.clone());
            }
        }
        Ok(moved)
    }
}
