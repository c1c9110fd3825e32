//! Submits durable commands: they are stored, and outlive the request that created them.

use std::sync::Arc;

use muster_protocol::CommandName;
use serde_json::json;

use super::approvals::draft::{ApprovalDraft, WaitingWork, hold};
use super::idempotency::{find_earlier, key_reused};
use super::library_pin::pin_script;
use super::preflight::OnMismatch;
use super::request::ValidatedCommand;
use super::secret_parameters::{digest, seal};
use super::target_agent::{TargetAgent, UNKNOWN_AGENT};
use super::{Commands, SendResult};
use crate::domain::access::principal::Scope;
use crate::domain::commands::approval::WorkApproval;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::CommandId;
use crate::domain::schedules::calendar::Start;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::Clearance;
use crate::services::error::Result;
use crate::store::StoreError;
use crate::store::entities::commands::command;
use crate::store::entities::commands::command::NewCommand;
use crate::store::queries::CommandWithReport;
use crate::store::writer::{Idempotency, SubmitCommand, Submitted};

impl Commands {
    /// Commits a command. If its agent is connected and has a free slot, the insert itself is
    /// `delivered`, and the frame leaves after the commit.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        target: TargetAgent,
        name: CommandName,
        mut validated: ValidatedCommand,
    ) -> Result<SendResult> {
        let _permit = self.limiter.acquire(caller.principal.id)?;
        let idempotency = validated.idempotency_key.clone().map(|key| Idempotency {
            key,
            request_hash: validated.hash(target.agent_id, name, &self.delivery.secret_box),
        });
        let draft = match self.prepare(caller, &target, name, &mut validated).await {
            Ok(draft) => draft,
            // A repeated request gets the response of the first one, even if the host now allows
            // something else.
            Err(refusal) => {
                return match &idempotency {
                    Some(key) => match find_earlier(&self.store, &caller.principal, key).await? {
                        Some(command_id) => self.accepted(caller, command_id).await,
                        None => Err(refusal),
                    },
                    None => Err(refusal),
                };
            }
        };
        let (what, work) = validated.audit_detail();
        let secrets = Arc::new(std::mem::take(&mut validated.secret_parameters));
        let contents = std::mem::take(&mut validated.contents);
        let tenant_id = caller.principal.tenant_id;
        let sealed_parameters = seal(&self.delivery.secret_box, tenant_id, &secrets)?;
        let overridden = validated.calendar_override.take();
        let mut row = self.row(caller, &target, name, validated, sealed_parameters);
        let approval =
            draft.map(|draft| draft.into_row(&WaitingWork::Command(row.id), row.created_at));
        if approval.is_some() {
            hold(&mut row);
        }
        let subject = Subject { kind: "command", id: row.id.0 };
        let approval_id = approval.as_ref().map(|approval| approval.id);
        let waits_for = approval.clone().map(WorkApproval::from);
        let mut detail = json!({"command": name, "agent_id": row.agent_id, what: work, "approval_id": approval_id});
        if let Some(retried) = row.retry_of {
            detail["retry_of"] = json!(retried);
        }
        if let Some(reason) = overridden {
            detail["calendar_override"] = json!(reason);
        }
        let audit = caller.audit("command.submit", subject, &detail, row.created_at);
        // A lock is checked when the command is sent.
        let is_ready = !row.is_held && row.lock_name.is_none();
        let reservation = target
            .session
            .filter(|_| is_ready)
            .and_then(|session| self.delivery.reserve_new(&session, &row, (&secrets, &contents)));
        let operation = SubmitCommand {
            row: row.clone(),
            deliver_in_epoch: reservation.as_ref().map(|reservation| reservation.epoch()),
            idempotency,
            audit,
            approval,
        };
        let reservations = reservation.into_iter().collect();
        match self.delivery.commit(operation, reservations, row.created_at).await? {
            Submitted::New { delivered } => {
                if let Some(id) = approval_id {
                    self.hub.notify_approval_requested(tenant_id, id);
                }
                Ok(self.announce(row, delivered, waits_for))
            }
            Submitted::Repeated { command_id } => self.accepted(caller, command_id).await,
            Submitted::AgentGone => Err(UNKNOWN_AGENT),
            Submitted::KeyReused => Err(key_reused()),
            Submitted::KeyInvalid => Err(StoreError::KeyInvalid.into()),
        }
    }

    /// Checks the limits of the caller's key, chooses the release of an `update`, and runs the preflight of
    /// an `execute`. Returns the request for approval, if a rule asks for one.
    async fn prepare(
        &self,
        caller: &Caller,
        target: &TargetAgent,
        name: CommandName,
        validated: &mut ValidatedCommand,
    ) -> Result<Option<ApprovalDraft>> {
        let agents = [target.agent_id];
        let now = self.clock.now();
        match validated.calendar_override {
            Some(_) => caller.require(Scope::CommandsManage)?,
            None => self.guard.check_calendars(caller, Start::Work, &agents, now).await?,
        }
        let (kind, confirmation) = (validated.kind(), validated.confirmation);
        let clearance = self.guard.check(caller, kind, &agents, confirmation).await?;
        self.choose_release(caller, target, name, validated).await?;
        pin_script(&self.library, caller.principal.tenant_id, validated, None).await?;
        // A rehearsal has got some.
        target.check_secrets(&validated.secret_parameters)?;
        match (validated.preflight_request(), target.host()) {
            (Some(request), Some(host)) if validated.on_mismatch == OnMismatch::Refuse => {
                self.preflight.check(caller.principal.tenant_id, vec![host], 1, request).await?;
            }
            _ => {}
        }
        let Clearance::NeedsApproval(needed) = clearance else { return Ok(None) };
        let secrets = digest(&self.delivery.secret_box, &validated.secret_parameters);
        self.preflight.pin(caller, needed, name, validated, secrets, &agents).await.map(Some)
    }

    /// The result for a command that an earlier request created.
    async fn accepted(&self, caller: &Caller, command_id: CommandId) -> Result<SendResult> {
        let found = self.wait_for_end(caller, command_id, 0).await?;
        Ok(SendResult::Accepted(Box::new(found)))
    }

    fn announce(
        &self,
        mut row: command::Model,
        delivered: bool,
        approval: Option<WorkApproval>,
    ) -> SendResult {
        if delivered {
            row.state = CommandState::Delivered;
            row.delivered_at = Some(row.created_at);
        } else {
            self.hub.announce_new(row.agent_id, row.id, !row.is_held);
        }
        let found = CommandWithReport { command: row.into(), report: None, approval };
        SendResult::Accepted(Box::new(found))
    }

    fn row(
        &self,
        caller: &Caller,
        target: &TargetAgent,
        name: CommandName,
        validated: ValidatedCommand,
        sealed_parameters: Option<Vec<u8>>,
    ) -> command::Model {
        let is_execute = name == CommandName::Execute;
        // Empty for an ad-hoc command.
        let script = is_execute.then(|| validated.script().unwrap_or_default().to_owned());
        let (trigger, retry_of, lock_name) = match validated.retry_of {
            Some(retried) => (Trigger::Retry, Some(retried.id), retried.lock),
            None => (Trigger::Api, None, None),
        };
        NewCommand {
            id: CommandId::new(),
            tenant_id: caller.principal.tenant_id,
            agent_id: target.agent_id,
            name,
            data: validated.data_text,
            sealed_parameters,
            requested_by: caller.principal.id,
            requested_from: caller.source.clone(),
            created_at: self.clock.now(),
            expires_in_ms: validated.expires_in_ms,
            timeout_ms: validated.timeout_ms,
            lost_after_ms: self.settings.lost_after_ms,
            job_id: None,
            script,
            trigger,
            retry_of,
            lock_name,
            request_id: caller.request_id.as_deref().map(str::to_owned),
        }
        .into_row()
    }
}
