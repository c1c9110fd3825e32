//! From `register` to a live session.

use std::sync::Arc;

use muster_protocol::frame::{Registered, Registration, ServerFrame};
use muster_protocol::limits::{DEFAULT_MAX_EXECUTIONS, MAX_EPOCH, MAX_MAX_EXECUTIONS};
use muster_protocol::release::Version;
use muster_protocol::secret_parameters::CAPABILITY;
use muster_protocol::{CloseCode, CommandName, PROTOCOL_VERSION};
use uuid::Uuid;

use super::live::Live;
use super::{ADMISSION_WAIT, AgentTransport, Origin, SessionEnd, Sessions, Wishes, update_results};
use crate::domain::fleet::agent::Transport;
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::name::clean;
use crate::hub::{HostRules, KeyGrant, SessionHandle, SessionParts};
use crate::services::access::authentication::to_grant;
use crate::services::releases::catalog::platform_of;
use crate::store::StoreError;
use crate::store::writer::{AgentIdentity, OpenSession, OpenedSession, SessionOpening};

/// Longest text that an agent may say of itself, in characters.
const MAX_TEXT: usize = 255;
/// Most capabilities that are read.
const MAX_CAPABILITIES: usize = 64;

impl Sessions {
    /// Commits the session's epoch, takes over from an older session, says `registered`.
    pub(super) async fn open<T: AgentTransport>(
        self: &Arc<Self>,
        origin: &Origin,
        registration: Registration,
        transport: &mut T,
    ) -> Result<Box<Live>, SessionEnd> {
        if origin.is_key_in_query && registration.is_full() {
            // URLs end up in logs on the way; a full agent can send a header.
            return Err(SessionEnd::Closed(CloseCode::PolicyViolation));
        }
        let busy = SessionEnd::Closed(CloseCode::TryAgainLater);
        let turn = Arc::clone(&self.admission).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(ADMISSION_WAIT, turn).await else {
            return Err(busy);
        };
        let revision = self.hub.key_revision();
        let operation = self.operation(origin, &registration)?;
        let max_executions = operation.max_executions;
        let opened = match self.store.writer().commit(operation).await {
            Ok(SessionOpening::Opened(opened)) => opened,
            Ok(SessionOpening::Refused(code)) => {
                tracing::info!(key_id = %origin.grant.key_id, reason = code.reason(), "agent refused");
                return Err(SessionEnd::Closed(code));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to open a session");
                return Err(busy);
            }
        };
        opened.lost.iter().for_each(|command_id| self.hub.notify_maybe_ended(*command_id));
        let grant = Arc::new(to_grant(&opened.key));
        let (handle, mail) = SessionHandle::new(SessionParts {
            agent_id: opened.agent_id,
            tenant_id: grant.tenant_id,
            epoch: opened.epoch,
            is_full: registration.is_full(),
            is_http: origin.transport == Transport::Http,
            capabilities: registration.capabilities.iter().filter_map(|c| c.parse().ok()).collect(),
            takes_secrets: registration.is_full()
                && registration.capabilities.iter().any(|name| name == CAPABILITY),
            window: usize::try_from(max_executions).unwrap_or(1),
            grant: Arc::clone(&grant),
            secret_until: (opened.key.secret_hash != origin.secret_hash.0)
                .then_some(opened.key.previous_valid_until)
                .flatten(),
        });
        handle.rules.replace(HostRules {
            policy: registration.policy.as_deref().map(|policy| clean(policy, MAX_TEXT).into()),
            ..HostRules::default()
        });
        // From here on the session leaves the hub when it is dropped.
        let mut live = Box::new(Live::new(Arc::clone(self), Arc::clone(&handle), mail));
        drop(permit);
        if let Some(replaced) = self.hub.enter(handle) {
            if replaced.epoch >= live.handle.epoch {
                return Err(SessionEnd::Closed(CloseCode::SessionReplaced));
            }
            replaced.close(CloseCode::SessionReplaced);
        }
        let session = Arc::clone(&live.handle);
        let welcomed = match self.follow_key(&session, revision).await {
            Ok(()) => self.welcome(origin, &opened, (&registration, &session), transport).await,
            Err(code) => Err(SessionEnd::Closed(code)),
        };
        if let Err(end) = welcomed {
            live.leave(end).await;
            return Err(end);
        }
        if !registration.is_full() {
            live.make_ready([]);
        }
        Ok(live)
    }

    /// A key that changed after it was looked at, and before this session stood in the hub, was
    /// not told to it.
    async fn follow_key(&self, session: &SessionHandle, revision: u64) -> Result<(), CloseCode> {
        if self.hub.key_revision() == revision {
            return Ok(());
        }
        let grant = session.grant();
        let tenant = self.store.tenant(grant.tenant_id);
        match tenant.agent_key(grant.key_id).await {
            Ok(Some(key)) if key.is_disabled => Err(CloseCode::KeyDisabled),
            Ok(Some(key)) => {
                session.set_grant(Arc::new(to_grant(&key)));
                Ok(())
            }
            Ok(None) => Err(CloseCode::KeyDeleted),
            Err(_) => Err(CloseCode::TryAgainLater),
        }
    }

    async fn welcome<T: AgentTransport>(
        &self,
        origin: &Origin,
        opened: &OpenedSession,
        (registration, session): (&Registration, &SessionHandle),
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let grant = session.grant();
        if grant.permissions != origin.grant.permissions {
            transport.feed(&self.connected(&grant)).await?;
        }
        if opened.server_restored {
            tracing::warn!(
                agent_id = %opened.agent_id,
                "an agent knows of sessions that this database does not: it was restored from a backup"
            );
        }
        let desired_version = self.desired_version(opened.agent_id, &grant, registration).await;
        let registered = ServerFrame::Registered(Box::new(Registered {
            agent_id: opened.agent_id.0,
            epoch: opened.epoch.cast_unsigned(),
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            max_output_bytes: Some(self.settings.max_output_bytes),
            server_restored: opened.server_restored,
            server_version: env!("CARGO_PKG_VERSION").into(),
            desired_version,
            timestamp: self.clock.now().to_string(),
        }));
        transport.feed(&registered).await?;
        transport.flush().await?;
        Ok(())
    }

    /// What an agent that comes is to ask for by itself, if its key allows it and it can be had.
    async fn desired_version(
        &self,
        agent_id: AgentId,
        grant: &KeyGrant,
        registration: &Registration,
    ) -> Option<String> {
        if !registration.is_full() || !grant.permissions.allows(CommandName::Update) {
            return None;
        }
        let found = self.find_wanted(agent_id, grant.tenant_id, registration).await;
        // Nobody is sent away for this: the next start asks again.
        found
            .inspect_err(|error| tracing::warn!(%agent_id, %error, "failed to look for a wish"))
            .unwrap_or_default()
    }

    async fn find_wanted(
        &self,
        agent_id: AgentId,
        tenant_id: TenantId,
        registration: &Registration,
    ) -> Result<Option<String>, StoreError> {
        let Wishes { book, catalog } = &self.wishes;
        let wanted =
            book.desired_version_at_start(tenant_id, agent_id, &registration.version).await?;
        let Some(version) = wanted.and_then(|wanted| wanted.parse::<Version>().ok()) else {
            return Ok(None);
        };
        let os = &registration.os;
        let platform = platform_of(os, registration.arch.as_deref().unwrap_or_default());
        let release = catalog.find(&version).await?.filter(|release| release.is_for(platform));
        Ok(release.map(|_| version.to_string()))
    }

    fn operation(
        &self,
        origin: &Origin,
        registration: &Registration,
    ) -> Result<OpenSession, SessionEnd> {
        let max_executions =
            registration.max_executions.unwrap_or(DEFAULT_MAX_EXECUTIONS).min(MAX_MAX_EXECUTIONS);
        Ok(OpenSession {
            tenant_id: origin.grant.tenant_id,
            key_id: origin.grant.key_id,
            secret_hash: origin.secret_hash.0.to_vec(),
            identity: identity(registration)?,
            hostname: clean(&registration.hostname, MAX_TEXT),
            ip: clean(&registration.ip, MAX_TEXT),
            version: clean(&registration.version, MAX_TEXT),
            os: clean(&registration.os, MAX_TEXT),
            arch: clean(registration.arch.as_deref().unwrap_or_default(), MAX_TEXT),
            capabilities: registration
                .capabilities
                .iter()
                .take(MAX_CAPABILITIES)
                .map(|name| clean(name, MAX_TEXT))
                .collect(),
            policy: registration.policy.as_deref().map(|policy| clean(policy, MAX_TEXT)),
            max_executions: i32::try_from(max_executions).unwrap_or(1),
            transport: origin.transport,
            update_result: registration.update.as_ref().map(update_results::stored),
            now: self.clock.now(),
        })
    }
}

/// A full agent says all of what makes it one; a basic agent's payload decides nothing.
fn identity(registration: &Registration) -> Result<AgentIdentity, SessionEnd> {
    if !registration.is_full() {
        return Ok(AgentIdentity::Basic);
    }
    let violation = SessionEnd::Closed(CloseCode::PolicyViolation);
    if registration.protocol != Some(PROTOCOL_VERSION) {
        return Err(violation);
    }
    let issued = registration.agent_id.as_deref().map(Uuid::parse_str).transpose();
    Ok(AgentIdentity::Full {
        agent_id: issued.map_err(|_| violation)?.map(AgentId),
        machine_id: registration
            .machine_id
            .as_deref()
            .filter(|id| !id.is_empty())
            .map(|id| clean(id, MAX_TEXT))
            .ok_or(violation)?,
        ledger_id: registration.ledger_id.ok_or(violation)?,
        acceptance_count: registration.acceptance_count.ok_or(violation)?,
        instance_id: registration.instance_id.ok_or(violation)?,
        highest_epoch: registration
            .highest_epoch
            .or(Some(0))
            .filter(|epoch| *epoch <= MAX_EPOCH)
            .ok_or(violation)?,
    })
}
