//! Commands that outlive the request that made them.

use std::sync::Arc;

use muster_protocol::secret_parameters::SecretParameters;
use muster_protocol::{CloseCode, CommandName};
use serde_json::json;

use super::preflight::OnMismatch;
use super::request::Checked;
use super::secret_parameters;
use super::secret_parameters::Outgoing;
use super::target::{Target, UNKNOWN};
use super::{Commands, Sent};
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::CommandId;
use crate::hub::{SessionHandle, SessionMessage};
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::commands::command;
use crate::store::queries::CommandWithReport;
use crate::store::writer::{Idempotency, SubmitCommand, Submitted};

impl Commands {
    /// Commits a command. For an agent that is connected and has room, the insert itself is
    /// `delivered`, and the frame leaves after the commit.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        target: Target,
        name: CommandName,
        mut checked: Checked,
    ) -> Result<Sent> {
        let _turn = self.turns.take(caller.principal.id)?;
        let idempotency = checked.idempotency_key.clone().map(|key| Idempotency {
            key,
            request_hash: checked.hash(target.agent_id, name, &self.secret_box),
        });
        let fits = match self.choose_release(caller, &target, name, &mut checked).await {
            Ok(()) => self.check_hosts(caller, &target, &checked).await,
            refused => refused,
        };
        if let Err(refusal) = fits {
            // What was asked for before is answered as before, whatever the host says now.
            let known = self.known(caller, idempotency.as_ref()).await?;
            return known.map(|known| Sent::Accepted(Box::new(known))).ok_or(refusal);
        }
        let (what, work) = checked.audited();
        let secrets = std::mem::take(&mut checked.secret_parameters);
        let tenant_id = caller.principal.tenant_id;
        let sealed_parameters = secret_parameters::seal(&self.secret_box, tenant_id, &secrets)?;
        let row = command::Model { sealed_parameters, ..self.row(caller, &target, name, checked) };
        let subject = Subject { kind: "command", id: row.id.0 };
        let detail = json!({"command": name, "agent_id": row.agent_id, what: work});
        let audit = caller.audit("command.submit", subject, &detail, row.created_at);
        let session = target.session.filter(|session| session.try_acquire_new(row.id));
        let operation = SubmitCommand {
            row: row.clone(),
            deliver_in_epoch: session.as_ref().map(|session| session.epoch),
            idempotency,
            audit,
        };
        let submitted = self.store.writer().commit(operation).await;
        if !matches!(submitted, Ok(Submitted::New { delivered: true }))
            && let Some(session) = &session
            && session.release(row.id)
        {
            self.hub.wake(row.agent_id);
        }
        if submitted.is_err()
            && let Some(session) = &session
        {
            // It may stand as delivered, though no frame has left: the next session's inventory
            // tells.
            session.close(CloseCode::TryAgainLater);
        }
        match submitted? {
            Submitted::New { delivered } => Ok(self.follow_up(row, secrets, session, delivered)),
            Submitted::Repeated { command_id } => {
                let tenant = self.store.tenant(caller.principal.tenant_id);
                let known = tenant.command(command_id).await?;
                Ok(Sent::Accepted(Box::new(known.ok_or(ServiceError::NotFound("command"))?)))
            }
            Submitted::AgentGone => Err(UNKNOWN),
            Submitted::KeyReused => Err(key_reused()),
        }
    }

    async fn check_hosts(&self, caller: &Caller, target: &Target, checked: &Checked) -> Result<()> {
        match (checked.asked(), target.host()) {
            (Some(asked), Some(host)) if checked.on_mismatch == OnMismatch::Refuse => {
                self.preflight.check(caller.principal.tenant_id, vec![host], 1, asked).await
            }
            _ => Ok(()),
        }
    }

    /// The command that this very request made before.
    async fn known(
        &self,
        caller: &Caller,
        idempotency: Option<&Idempotency>,
    ) -> Result<Option<CommandWithReport>> {
        let Some(idempotency) = idempotency else { return Ok(None) };
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let record = tenant.idempotency_record(caller.principal.id, &idempotency.key).await?;
        match record {
            None => Ok(None),
            Some(record) if record.request_hash == idempotency.request_hash => {
                Ok(tenant.command(record.command_id).await?)
            }
            Some(_) => Err(key_reused()),
        }
    }

    fn follow_up(
        &self,
        mut row: command::Model,
        secrets: SecretParameters,
        session: Option<Arc<SessionHandle>>,
        delivered: bool,
    ) -> Sent {
        self.hub.notify_progress(row.id);
        if delivered && let Some(session) = session {
            let frame = Box::new(Outgoing::new(row.clone(), secrets).into_frame(row.created_at));
            row.state = CommandState::Delivered;
            row.delivered_at = Some(row.created_at);
            self.meters.sent(self.clock.now().ms_since(row.created_at));
            // If the session has ended meanwhile, the next one's inventory does not list the
            // command, which puts it back into the queue.
            session.send_or_spawn(SessionMessage::Command { frame, held: true });
        } else if self.hub.is_connected(row.agent_id) {
            self.hub.wake(row.agent_id);
        }
        Sent::Accepted(Box::new(CommandWithReport { command: row, report: None }))
    }

    fn row(
        &self,
        caller: &Caller,
        target: &Target,
        name: CommandName,
        checked: Checked,
    ) -> command::Model {
        let now = self.clock.now();
        let script = match name {
            // Of an ad-hoc command the empty one.
            CommandName::Execute => Some(checked.script().unwrap_or_default().to_owned()),
            _ => None,
        };
        command::Model {
            id: CommandId::new(),
            tenant_id: caller.principal.tenant_id,
            agent_id: target.agent_id,
            command: name.as_str().to_owned(),
            data: checked.data_text,
            sealed_parameters: None,
            state: CommandState::Queued,
            end_reason: None,
            requested_by: caller.principal.id,
            requested_from: caller.source.clone(),
            created_at: now,
            expires_at: now.plus_ms(checked.expires_in_ms),
            timeout_ms: checked.timeout_ms.cast_signed(),
            lost_after_ms: self.settings.lost_after_ms.cast_signed(),
            delivered_at: None,
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            job_id: None,
            wave: None,
            is_held: false,
            script,
            trigger: Trigger::Api,
        }
    }
}

fn key_reused() -> ServiceError {
    ServiceError::Invalid {
        code: "idempotency_key_reused",
        detail: "this Idempotency-Key belongs to another request; use a new one".into(),
    }
}
