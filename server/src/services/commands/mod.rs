//! Commands: transient ones are answered at once, durable ones are stored and delivered.

pub mod approvals;
pub mod change_publisher;
pub(super) mod delivery;
pub mod dispatch;
mod durable;
mod executions;
pub mod explanation;
mod idempotency;
pub mod job_reconciler;
pub mod jobs;
mod library_pin;
pub mod output;
pub mod preflight;
mod releases;
mod request;
mod retry;
pub(super) mod secret_parameters;
pub(super) mod submission_limiter;
mod target_agent;
mod transient;

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::commands::command::Durability;
use serde_json::json;

use self::approvals::of_work::add_approvals;
use self::delivery::CommandDelivery;
pub use self::executions::Execution;
pub use self::idempotency::MAX_IDEMPOTENCY_KEY_CHARS;
use self::preflight::Preflight;
pub use self::request::{CommandRequest, DEFAULT_WAIT_MS, MAX_OVERRIDE_CHARS, MAX_WAIT_MS};
use self::submission_limiter::SubmissionLimiter;
use self::target_agent::check_permission;
use super::Settings;
use super::access::authentication::to_grant;
use super::access::caller::{Caller, Subject};
use super::access::keys::key_cache::KeyCache;
use super::access::work_guard::WorkGuard;
use super::error::{Result, ServiceError};
use super::fleet::group_membership::GroupMembership;
use super::fleet::presence::Presence;
use super::library::Library;
use super::releases::catalog::ReleaseCatalog;
use crate::domain::access::principal::Scope;
use crate::domain::commands::work::WorkKind;
use crate::domain::ids::{AgentId, AgentKeyId, CommandId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::hub::{Hub, SessionMessage, TransientReply};
use crate::store::Store;
use crate::store::queries::{Cancelled, CommandFilter, CommandWithReport, TenantScope};

/// Use cases of commands.
#[derive(Clone, Debug)]
pub struct Commands {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) cache: KeyCache,
    pub(super) delivery: CommandDelivery,
    pub(super) preflight: Preflight,
    pub(super) limiter: SubmissionLimiter,
    pub(super) presence: Presence,
    pub(super) catalog: ReleaseCatalog,
    pub(super) membership: GroupMembership,
    pub(super) guard: WorkGuard,
    pub(super) library: Library,
}

/// The result of sending a command.
#[derive(Debug)]
pub enum SendResult {
    /// The reply to a transient command.
    Replied { command_id: CommandId, reply: TransientReply },
    /// A durable command, committed.
    Accepted(Box<CommandWithReport>),
}

impl Commands {
    /// Sends a command to the only agent of a key.
    ///
    /// # Errors
    /// As [`Self::send`]; 409 `ambiguous_agent` if the key has several agents, `agent_offline` if
    /// no agent has connected with it yet.
    pub async fn send_to_key(
        &self,
        caller: &Caller,
        key_id: AgentKeyId,
        request: CommandRequest,
    ) -> Result<SendResult> {
        let name = request.authorized_name(caller)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let key = tenant.agent_key(key_id).await?.ok_or(ServiceError::NotFound("agent key"))?;
        check_permission(&to_grant(&key), name)?;
        match tenant.up_to_two_agents_of_key(key_id).await?.as_slice() {
            [] => Err(ServiceError::Conflict {
                code: "agent_offline",
                detail: "no agent has connected with this key yet".into(),
            }),
            [agent] => self.send(caller, agent.id, request).await,
            _ => Err(ServiceError::Conflict {
                code: "ambiguous_agent",
                detail: "this key has several agents; send the command to one of them with /api/agents/{id}/command".into(),
            }),
        }
    }

    /// Sends a command. The permission of the agent's key is checked before the data.
    ///
    /// # Errors
    /// `permission_denied`, `unsupported_command`, `agent_offline`, `agent_timeout`,
    /// `idempotency_key_reused`, an invalid field, a refusal by the host's manifest or policy, or
    /// `too_many_requests`.
    pub async fn send(
        &self,
        caller: &Caller,
        agent_id: AgentId,
        request: CommandRequest,
    ) -> Result<SendResult> {
        let name = request.authorized_name(caller)?;
        let target = self.find_target(caller, agent_id).await?;
        target.check(name)?;
        let validated = request.validate(name)?;
        validated.check_scope(caller)?;
        target.check_secrets(&validated.secret_parameters)?;
        match name.durability() {
            // A durable command is checked together with its idempotency key.
            Durability::Transient => {
                self.guard.check_limits(caller, WorkKind::Question, &[agent_id]).await?;
                self.request_reply(caller, target, name, validated).await
            }
            Durability::Durable => self.submit(caller, target, name, validated).await,
        }
    }

    /// One command. Waits up to `wait_ms` for its end.
    pub async fn get(
        &self,
        caller: &Caller,
        id: CommandId,
        wait_ms: u64,
    ) -> Result<CommandWithReport> {
        caller.require(Scope::CommandsRead)?;
        self.wait_for_end(caller, id, wait_ms).await
    }

    /// One command, for a caller whose right was checked.
    async fn wait_for_end(
        &self,
        caller: &Caller,
        id: CommandId,
        wait_ms: u64,
    ) -> Result<CommandWithReport> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let watch = self.hub.watch_command(id);
        let deadline =
            tokio::time::Instant::now() + Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        loop {
            let ended = watch.ended();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let found = tenant.command(id).await?.ok_or(ServiceError::NotFound("command"))?;
            if found.command.state.is_terminal() || wait_ms == 0 {
                return with_approval(&tenant, found).await;
            }
            if tokio::time::timeout_at(deadline, ended).await.is_err() {
                return with_approval(&tenant, found).await;
            }
        }
    }

    /// One page of commands, newest first. A page may be short although more follow.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: CommandFilter,
        page: PageRequest,
    ) -> Result<Page<CommandWithReport>> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let mut page = tenant.commands(&filter, page).await?;
        add_approvals(&tenant, &mut page.items).await?;
        Ok(page)
    }

    /// Requests the cancellation of a command. A queued one ends at once; otherwise its agent decides.
    ///
    /// # Errors
    /// 403 if another key requested it and the caller lacks `commands:manage`; 409
    /// `cancel_unsupported` if the command was sent to a basic agent.
    pub async fn cancel(&self, caller: &Caller, id: CommandId) -> Result<CommandWithReport> {
        caller.require_own_control()?;
        let found = self.store.tenant(caller.principal.tenant_id).command(id).await?;
        let found = found.ok_or(ServiceError::NotFound("command"))?;
        caller.require_control(found.command.requested_by)?;
        if found.command.requested_by != caller.principal.id {
            self.guard.check_limits(caller, WorkKind::Control, &[found.command.agent_id]).await?;
        }
        let now = self.clock.now();
        let subject = Subject { kind: "command", id: id.0 };
        let audit = caller.audit("command.cancel", subject, &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.cancel_command(id, now, audit).await? {
            Cancelled::Unknown => return Err(ServiceError::NotFound("command")),
            Cancelled::Unsupported => {
                return Err(ServiceError::Conflict {
                    code: "cancel_unsupported",
                    detail: "this command was sent to a basic agent, which can't cancel commands"
                        .into(),
                });
            }
            Cancelled::Requested { command, is_sent } => {
                self.hub.notify_maybe_ended(id);
                if is_sent && let Some(session) = self.hub.session(command.agent_id) {
                    // If the session has just ended, the next one sends the cancel again.
                    session.send_or_spawn(SessionMessage::Cancel(Box::new(id)));
                }
            }
        }
        self.wait_for_end(caller, id, 0).await
    }
}

async fn with_approval(
    tenant: &TenantScope,
    mut found: CommandWithReport,
) -> Result<CommandWithReport> {
    add_approvals(tenant, std::slice::from_mut(&mut found)).await?;
    Ok(found)
}
