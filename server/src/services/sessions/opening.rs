//! From `register` to a live session.

use std::sync::Arc;

use muster_protocol::CloseCode;
use muster_protocol::frame::{Registered, Registration, ServerFrame};
use muster_protocol::limits::{DEFAULT_MAX_JOBS, MAX_MAX_JOBS};
use uuid::Uuid;

use super::live::Live;
use super::{ADMISSION_WAIT, AgentTransport, Origin, SessionEnd, Sessions};
use crate::domain::ids::AgentId;
use crate::domain::name::clean;
use crate::hub::{SessionHandle, SessionParts, ToSession};
use crate::store::StoreError;
use crate::store::writer::{AgentIdentity, OpenSession, OpenedSession, SessionOpening};

/// Longest text that an agent may say of itself, in characters.
const MAX_TEXT: usize = 255;
/// Most capabilities that are read.
const MAX_CAPABILITIES: usize = 64;

impl Sessions {
    /// Commits the session's epoch, takes over from an older session, says `registered`.
    pub(super) async fn open<T: AgentTransport>(
        &self,
        origin: &Origin,
        registration: Registration,
        transport: &mut T,
    ) -> Result<Live, SessionEnd> {
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
        let max_jobs = operation.max_jobs;
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
        let (handle, mail) = SessionHandle::new(SessionParts {
            agent_id: opened.agent_id,
            tenant_id: origin.grant.tenant_id,
            epoch: opened.epoch,
            is_full: registration.is_full(),
            capabilities: registration.capabilities.iter().filter_map(|c| c.parse().ok()).collect(),
            window: usize::try_from(max_jobs).unwrap_or(1),
            grant: Arc::clone(&origin.grant),
        });
        if let Some(replaced) = self.hub.enter(Arc::clone(&handle)) {
            if replaced.epoch >= handle.epoch {
                return Err(SessionEnd::Closed(CloseCode::SessionReplaced));
            }
            let _ = replaced.tell(ToSession::Close(CloseCode::SessionReplaced));
        }
        let mut live = Live::new(self.clone(), handle, mail, permit);
        // A key that changed while this session was opening was not told to it.
        if self.hub.key_revision() != revision
            && let Err(code) = self.still_admitted(origin).await
        {
            live.leave(SessionEnd::Closed(code)).await;
            return Err(SessionEnd::Closed(code));
        }
        if let Err(end) = self.welcome(&opened, transport).await {
            live.leave(end).await;
            return Err(end);
        }
        if !registration.is_full() {
            live.make_ready([]);
        }
        Ok(live)
    }

    async fn welcome<T: AgentTransport>(
        &self,
        opened: &OpenedSession,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        if opened.server_restored {
            tracing::warn!(
                agent_id = %opened.agent_id,
                "an agent knows of sessions that this database does not: it was restored from a backup"
            );
        }
        let registered = ServerFrame::Registered(Box::new(Registered {
            agent_id: opened.agent_id.0,
            epoch: opened.epoch.cast_unsigned(),
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            server_restored: opened.server_restored,
            server_version: env!("CARGO_PKG_VERSION").into(),
            timestamp: self.clock.now().to_string(),
        }));
        transport.feed(&registered).await?;
        transport.flush().await?;
        Ok(())
    }

    async fn still_admitted(&self, origin: &Origin) -> Result<(), CloseCode> {
        let tenant = self.store.tenant(origin.grant.tenant_id);
        let found: Result<_, StoreError> = tenant.agent_key(origin.grant.key_id).await;
        match found {
            Ok(Some(key)) if key.is_disabled => Err(CloseCode::KeyDisabled),
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(CloseCode::KeyDeleted),
            Err(_) => Err(CloseCode::TryAgainLater),
        }
    }

    fn operation(
        &self,
        origin: &Origin,
        registration: &Registration,
    ) -> Result<OpenSession, SessionEnd> {
        let max_jobs = registration.max_jobs.unwrap_or(DEFAULT_MAX_JOBS).clamp(1, MAX_MAX_JOBS);
        Ok(OpenSession {
            tenant_id: origin.grant.tenant_id,
            key_id: origin.grant.key_id,
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
            max_jobs: i32::try_from(max_jobs).unwrap_or(1),
            transport: origin.transport,
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
        highest_epoch: registration.highest_epoch.unwrap_or(0),
    })
}
