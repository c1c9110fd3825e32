//! Commands: transient ones answered now, durable ones stored, followed, cancelled.

pub mod changes;
pub mod dispatch;
mod durable;
mod executions;
pub mod job_reconciler;
pub mod jobs;
pub mod output;
pub mod preflight;
mod releases;
mod request;
pub(super) mod secret_parameters;
pub(super) mod submission_limiter;
mod target;
mod transient;

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::command::Durability;
use serde_json::json;

pub use self::executions::Execution;
use self::preflight::Preflight;
pub(in crate::services) use self::request::{Checked, request_hash};
pub use self::request::{CommandRequest, DEFAULT_WAIT_MS, MAX_WAIT_MS};
use self::submission_limiter::SubmissionLimiter;
use self::target::check_permission;
use super::Settings;
use super::access::authentication::to_grant;
use super::access::caller::{Caller, Subject};
use super::access::key_cache::KeyCache;
use super::error::{Result, ServiceError};
use super::fleet::group_membership::GroupMembership;
use super::releases::catalog::ReleaseCatalog;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{AgentId, AgentKeyId, CommandId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::hub::{Hub, SessionMessage, TransientReply};
use crate::metrics::DispatchMetrics;
use crate::store::Store;
use crate::store::queries::{Cancelled, CommandFilter, CommandWithReport};

/// Use cases of commands.
#[derive(Clone, Debug)]
pub struct Commands {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) cache: KeyCache,
    pub(super) secret_box: SecretBox,
    pub(super) meters: DispatchMetrics,
    pub(super) preflight: Preflight,
    pub(super) turns: SubmissionLimiter,
    pub(super) catalog: ReleaseCatalog,
    pub(super) book: GroupMembership,
}

/// What came of a request.
#[derive(Debug)]
pub enum Sent {
    /// A transient command, and its answer.
    Answered { command_id: CommandId, answer: TransientReply },
    /// A durable command, committed.
    Accepted(Box<CommandWithReport>),
}

impl Commands {
    /// Sends a command to the one agent of a key.
    ///
    /// # Errors
    /// As [`Self::send`]; 409 `ambiguous_agent` if the key has several agents, `agent_offline` if
    /// it has none yet.
    pub async fn send_to_key(
        &self,
        caller: &Caller,
        key_id: AgentKeyId,
        request: CommandRequest,
    ) -> Result<Sent> {
        caller.require(Scope::CommandsRun)?;
        let name = request.name()?;
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
                detail: "this key has several agents; address one by /api/agents/{id}".into(),
            }),
        }
    }

    /// Sends a command: permission first, then everything else.
    ///
    /// # Errors
    /// `permission_denied`, `unsupported_command`, `agent_offline`, `agent_timeout`,
    /// `idempotency_key_reused`, the field that does not fit, what the host would refuse, or
    /// `too_many_requests`.
    pub async fn send(
        &self,
        caller: &Caller,
        agent_id: AgentId,
        request: CommandRequest,
    ) -> Result<Sent> {
        caller.require(Scope::CommandsRun)?;
        let name = request.name()?;
        let target = self.target(caller, agent_id).await?;
        target.check(name)?;
        let checked = request.check(name)?;
        checked.check_scope(caller)?;
        target.check_secrets(&checked.secret_parameters)?;
        match name.durability() {
            Durability::Transient => self.ask(caller, target, name, checked).await,
            Durability::Durable => self.submit(caller, target, name, checked).await,
        }
    }

    /// A command as it stands, after at most `wait_ms` of waiting for its end.
    pub async fn get(
        &self,
        caller: &Caller,
        id: CommandId,
        wait_ms: u64,
    ) -> Result<CommandWithReport> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let watch = self.hub.watch(id);
        let deadline =
            tokio::time::Instant::now() + Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        loop {
            let ended = watch.ended();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let found = tenant.command(id).await?.ok_or(ServiceError::NotFound("command"))?;
            if found.command.state.is_terminal() || wait_ms == 0 {
                return Ok(found);
            }
            if tokio::time::timeout_at(deadline, ended).await.is_err() {
                return Ok(found);
            }
        }
    }

    /// One page of commands, newest first; it may be short and go on nevertheless.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: CommandFilter,
        page: PageRequest,
    ) -> Result<Page<CommandWithReport>> {
        caller.require(Scope::CommandsRead)?;
        Ok(self.store.tenant(caller.principal.tenant_id).commands(&filter, page).await?)
    }

    /// Asks for a command's end. From `queued` it ends at once; else its agent decides.
    ///
    /// # Errors
    /// 409 `cancel_unsupported` if a basic agent has been sent it.
    pub async fn cancel(&self, caller: &Caller, id: CommandId) -> Result<CommandWithReport> {
        caller.require(Scope::CommandsRun)?;
        let now = self.clock.now();
        let subject = Subject { kind: "command", id: id.0 };
        let audit = caller.audit("command.cancel", subject, &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.cancel_command(id, now, audit).await? {
            Cancelled::Unknown => return Err(ServiceError::NotFound("command")),
            Cancelled::Unsupported => {
                return Err(ServiceError::Conflict {
                    code: "cancel_unsupported",
                    detail: "a basic agent has been sent this command and can't cancel it".into(),
                });
            }
            Cancelled::Requested { command, tell } => {
                self.hub.notify_maybe_ended(id);
                if tell && let Some(session) = self.hub.session(command.agent_id) {
                    // If the session has just ended, the next one repeats the cancel.
                    session.send_or_spawn(SessionMessage::Cancel(Box::new(id)));
                }
            }
        }
        self.get(caller, id, 0).await
    }
}
