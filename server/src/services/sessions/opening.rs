//! Opens a session: from `register` to `registered`.

use std::sync::Arc;

use muster_protocol::commands::{file_transfer, step};
use muster_protocol::frame::{Registered, Registration, SERVICE_MANAGERS, ServerFrame};
use muster_protocol::identity::Challenge;
use muster_protocol::limits::{DEFAULT_MAX_EXECUTIONS, MAX_EPOCH, MAX_MAX_EXECUTIONS};
use muster_protocol::parameter::secret_parameters::CAPABILITY;
use muster_protocol::release::Version;
use muster_protocol::{CloseCode, CommandName, PROTOCOL_VERSION, facts, library, package};
use uuid::Uuid;

use super::live::LiveSession;
use super::{
    AgentTransport, Claims, DesiredVersions, OPENING_TIMEOUT, ProvenClaims, SessionEnd,
    SessionRequest, Sessions, enrolment_ticket, update_results,
};
use crate::domain::access::credential::SecretHash;
use crate::domain::fleet::agent::Transport;
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::name::{MAX_NAME_CHARS, check_name, check_tags, clean, clean_host_name};
use crate::hub::{HostRules, KeyGrant, SessionHandle, SessionMessage, SessionParams};
use crate::services::access::authentication::to_grant;
use crate::services::certificates::rollover::NoticeState;
use crate::services::releases::catalog::platform_of;
use crate::store::StoreError;
use crate::store::writer::{
    AgentIdentity, OpenSession, OpenedSession, SessionOpening, admit_secret,
};

/// Longest text that an agent reports about itself, in characters.
const MAX_TEXT: usize = 255;
/// Most capabilities that are stored.
const MAX_CAPABILITIES: usize = 64;

impl Sessions {
    /// Checks who the agent is. Before the opening takes a slot, and outside of the writer: a signature
    /// costs time.
    pub(super) fn prove(
        &self,
        request: &SessionRequest,
        claims: Claims,
    ) -> Result<ProvenClaims, SessionEnd> {
        let Claims { registration, challenge } = claims;
        if request.is_key_in_query && registration.is_full() {
            // Proxies log URLs, and a full agent can send a header.
            return Err(SessionEnd::Closed(CloseCode::PolicyViolation));
        }
        let identity = self.identity(request, &registration, &challenge)?;
        let public_key = identity.public_key();
        let is_enrolment = self.admit_certificate(request, &registration, public_key)?;
        Ok(ProvenClaims { registration, identity, is_enrolment })
    }

    /// Commits the session's epoch, replaces an older session, and sends `registered`.
    pub(super) async fn open<T: AgentTransport>(
        self: &Arc<Self>,
        request: &SessionRequest,
        claims: ProvenClaims,
        transport: &mut T,
    ) -> Result<Box<LiveSession>, SessionEnd> {
        let ProvenClaims { registration, identity, is_enrolment } = claims;
        let public_key = identity.public_key();
        let busy = SessionEnd::Closed(CloseCode::TryAgainLater);
        let permit = Arc::clone(&self.opening).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(OPENING_TIMEOUT, permit).await else {
            return Err(busy);
        };
        let revision = self.hub.key_revision();
        let operation = self.operation(request, &registration, identity);
        let max_executions = operation.max_executions;
        let opened = match self.store.writer().commit(operation).await {
            Ok(SessionOpening::Opened(opened)) => opened,
            Ok(SessionOpening::Refused(code)) => {
                tracing::info!(key_id = %request.grant.key_id, reason = code.reason(), "agent refused");
                if code == CloseCode::PlanLimit {
                    let hostname = clean_host_name(&registration.hostname, MAX_TEXT);
                    self.report_plan_refusal(request, hostname);
                }
                return Err(SessionEnd::Closed(code));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to open a session");
                return Err(busy);
            }
        };
        opened.lost.iter().for_each(|command_id| self.hub.notify_maybe_ended(*command_id));
        let grant = Arc::new(to_grant(&opened.key));
        let supports = |capability: &str| {
            registration.is_full()
                && registration.capabilities.iter().any(|name| name == capability)
        };
        let (handle, messages) = SessionHandle::new(SessionParams {
            agent_id: opened.agent_id,
            tenant_id: grant.tenant_id,
            epoch: opened.epoch,
            is_full: registration.is_full(),
            is_http: request.transport == Transport::Http,
            capabilities: registration.capabilities.iter().filter_map(|c| c.parse().ok()).collect(),
            supports_secrets: supports(CAPABILITY),
            supports_library: supports(library::CAPABILITY),
            supports_packages: supports(package::CAPABILITY),
            supports_files: supports(file_transfer::CAPABILITY),
            supports_steps: supports(step::CAPABILITY),
            supports_assignments: supports(package::ASSIGNMENTS_CAPABILITY),
            supports_assigned_scripts: supports(package::ASSIGNED_SCRIPTS_CAPABILITY),
            max_in_flight: usize::try_from(max_executions).unwrap_or(1),
            grant: Arc::clone(&grant),
            secret_until: (opened.key.secret_hash != request.secret_hash.0)
                .then_some(opened.key.previous_valid_until)
                .flatten(),
        });
        handle.rules.replace(HostRules {
            policy: registration.policy.as_deref().map(|policy| clean(policy, MAX_TEXT).into()),
            ..HostRules::default()
        });
        // From here on the session unregisters itself when it is dropped.
        let mut live = Box::new(LiveSession::new(Arc::clone(self), Arc::clone(&handle), messages));
        drop(permit);
        if let Some(replaced) = self.hub.register(handle) {
            if replaced.epoch >= live.handle.epoch {
                return Err(SessionEnd::Closed(CloseCode::SessionReplaced));
            }
            replaced.close(CloseCode::SessionReplaced);
        }
        let session = Arc::clone(&live.handle);
        let is_admitted = async {
            self.recheck_key(&session, request.secret_hash, revision).await?;
            self.find_certificate(request, &registration, public_key).await
        };
        let registered = match is_admitted.await {
            Ok(certificate) => {
                live.certificate = certificate;
                live.notices = NoticeState::of(&registration);
                let ticket = public_key.map(|public_key| {
                    let tenant_id = session.tenant_id;
                    enrolment_ticket::issue(
                        &self.secret_box,
                        tenant_id,
                        opened.agent_id,
                        &public_key,
                    )
                });
                let opened = (&*opened, ticket);
                let agent = (&registration, &*session);
                match self.send_registered(request, opened, agent, transport).await {
                    Ok(()) => live.start_certificate(is_enrolment, transport).await,
                    Err(end) => Err(end),
                }
            }
            Err(code) => Err(SessionEnd::Closed(code)),
        };
        if let Err(end) = registered {
            live.leave(end).await;
            return Err(end);
        }
        if !registration.is_full() {
            live.make_ready([]);
        }
        Ok(live)
    }

    /// Reads the key again if it changed after it was read and before this session was registered:
    /// the session missed that notification. It is admitted once more, with the secret that it
    /// presented.
    pub(super) async fn recheck_key(
        &self,
        session: &Arc<SessionHandle>,
        secret_hash: SecretHash,
        revision: u64,
    ) -> Result<(), CloseCode> {
        let grant = session.grant();
        if self.cache.is_closed(grant.tenant_id) {
            return Err(CloseCode::TenantClosed);
        }
        if self.hub.key_revision() == revision {
            return Ok(());
        }
        let tenant = self.store.tenant(grant.tenant_id);
        let Ok(key) = tenant.agent_key(grant.key_id).await else {
            return Err(CloseCode::TryAgainLater);
        };
        let (key, is_in_grace) = admit_secret(key.as_ref(), &secret_hash.0, self.clock.now())?;
        session.set_grant(Arc::new(to_grant(key)));
        if !is_in_grace {
            return Ok(());
        }
        match self.hub.recent_rekey(key.id).filter(|_| session.is_full) {
            // As the connected agents of the key: it has proven its key pair.
            Some(rekey) => session.send_or_spawn(SessionMessage::Rekey(Box::new(rekey))),
            None => {
                key.previous_valid_until.into_iter().for_each(|at| session.expire_secret_at(at))
            }
        }
        Ok(())
    }

    async fn send_registered<T: AgentTransport>(
        &self,
        request: &SessionRequest,
        (opened, ticket): (&OpenedSession, Option<String>),
        (registration, session): (&Registration, &SessionHandle),
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let grant = session.grant();
        if grant.permissions != request.grant.permissions {
            transport.feed(&self.connected(&grant, None)).await?;
        }
        if opened.server_restored {
            tracing::warn!(
                agent_id = %opened.agent_id,
                "an agent has a newer epoch than the database, which was restored from a backup"
            );
        }
        let desired_version = self.desired_version(opened.agent_id, &grant, registration).await;
        let presented = registration.agent_id.as_deref().and_then(|id| Uuid::parse_str(id).ok());
        let is_enrolled_now = presented != Some(opened.agent_id.0);
        let registered = ServerFrame::Registered(Box::new(Registered {
            agent_id: opened.agent_id.0,
            epoch: opened.epoch.cast_unsigned(),
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            max_output_bytes: Some(self.settings.max_output_bytes),
            server_restored: opened.server_restored,
            server_version: env!("CARGO_PKG_VERSION").into(),
            desired_version,
            timestamp: self.clock.now().to_string(),
            ticket,
            tags_ignored: is_enrolled_now
                && !registration.tags.is_empty()
                && !opened.key.trusts_holders,
            accepts_facts: registration.is_full()
                && registration.capabilities.iter().any(|name| name == facts::CAPABILITY),
        }));
        transport.feed(&registered).await?;
        transport.flush().await?;
        Ok(())
    }

    /// The version that the agent should update to, if its key allows updates and the release has a
    /// program for it.
    async fn desired_version(
        &self,
        agent_id: AgentId,
        grant: &KeyGrant,
        registration: &Registration,
    ) -> Option<String> {
        if !registration.is_full() || !grant.permissions.allows(CommandName::Update) {
            return None;
        }
        let found = self.find_desired_version(agent_id, grant.tenant_id, registration).await;
        // A failure must not prevent the session; the next one tries again.
        found
            .inspect_err(
                |error| tracing::warn!(%agent_id, %error, "failed to find the desired version"),
            )
            .unwrap_or_default()
    }

    async fn find_desired_version(
        &self,
        agent_id: AgentId,
        tenant_id: TenantId,
        registration: &Registration,
    ) -> Result<Option<String>, StoreError> {
        let DesiredVersions { membership, catalog } = &self.desired_versions;
        let desired =
            membership.desired_version_at_start(tenant_id, agent_id, &registration.version).await?;
        let Some(version) = desired.and_then(|desired| desired.parse::<Version>().ok()) else {
            return Ok(None);
        };
        let os = &registration.os;
        let platform = platform_of(os, registration.arch.as_deref().unwrap_or_default());
        let release = catalog.find(&version).await?.filter(|release| release.is_for(platform));
        Ok(release.map(|_| version.to_string()))
    }

    fn operation(
        &self,
        request: &SessionRequest,
        registration: &Registration,
        identity: AgentIdentity,
    ) -> OpenSession {
        let max_executions =
            registration.max_executions.unwrap_or(DEFAULT_MAX_EXECUTIONS).min(MAX_MAX_EXECUTIONS);
        OpenSession {
            tenant_id: request.grant.tenant_id,
            key_id: request.grant.key_id,
            secret_hash: request.secret_hash.0.to_vec(),
            identity,
            hostname: clean_host_name(&registration.hostname, MAX_TEXT),
            chosen_name: chosen_name(registration),
            chosen_tags: chosen_tags(registration),
            ip: clean(&registration.ip, MAX_TEXT),
            version: clean(&registration.version, MAX_TEXT),
            os: clean(&registration.os, MAX_TEXT),
            arch: clean(registration.arch.as_deref().unwrap_or_default(), MAX_TEXT),
            service_manager: service_manager(registration),
            capabilities: registration
                .capabilities
                .iter()
                .take(MAX_CAPABILITIES)
                .map(|name| clean(name, MAX_TEXT))
                .collect(),
            policy: registration.policy.as_deref().map(|policy| clean(policy, MAX_TEXT)),
            max_executions: i32::try_from(max_executions).unwrap_or(1),
            transport: request.transport,
            update_result: registration.update.as_ref().map(update_results::to_stored),
            notice_id: registration.authorities_id,
            now: self.clock.now(),
        }
    }

    /// Who the agent is. A full agent must report all fields of its identity and prove its key pair.
    /// The payload of a basic agent is ignored.
    fn identity(
        &self,
        request: &SessionRequest,
        registration: &Registration,
        challenge: &Challenge,
    ) -> Result<AgentIdentity, SessionEnd> {
        if !registration.is_full() {
            return Ok(AgentIdentity::Basic);
        }
        let violation = SessionEnd::Closed(CloseCode::PolicyViolation);
        if registration.protocol != Some(PROTOCOL_VERSION) {
            return Err(violation);
        }
        let KeyGrant { key_id, tenant_id, .. } = *request.grant;
        let Some(public_key) = registration.proven_key(challenge, key_id.0) else {
            tracing::warn!(%key_id, "a full agent did not prove its key pair; its session is closed");
            return Err(violation);
        };
        let issued = registration.agent_id.as_deref().map(Uuid::parse_str).transpose();
        let agent_id = issued.map_err(|_| violation)?.map(AgentId);
        let ticket = agent_id.zip(registration.ticket.as_deref());
        let machine_id = registration.machine_id.as_deref().filter(|id| !id.is_empty());
        let highest_epoch = registration.highest_epoch.unwrap_or(0);
        Ok(AgentIdentity::Full {
            agent_id,
            public_key,
            has_ticket: ticket.is_some_and(|(id, ticket)| {
                enrolment_ticket::is_valid(&self.secret_box, tenant_id, id, &public_key, ticket)
            }),
            machine_id: machine_id.map(|id| clean(id, MAX_TEXT)).ok_or(violation)?,
            ledger_id: registration.ledger_id.ok_or(violation)?,
            acceptance_count: registration.acceptance_count.ok_or(violation)?,
            instance_id: registration.instance_id.ok_or(violation)?,
            highest_epoch: Some(highest_epoch)
                .filter(|epoch| *epoch <= MAX_EPOCH)
                .ok_or(violation)?,
        })
    }
}

/// What starts the agent, if it is a known word.
fn service_manager(registration: &Registration) -> String {
    let reported = registration.service_manager.as_deref().unwrap_or_default();
    SERVICE_MANAGERS.into_iter().find(|known| *known == reported).unwrap_or_default().to_owned()
}

/// The name that the host's owner chose, if it can be one.
fn chosen_name(registration: &Registration) -> String {
    let name = clean_host_name(registration.name.as_deref().unwrap_or_default(), MAX_NAME_CHARS);
    if check_name(&name).is_ok() { name } else { String::new() }
}

/// The tags that the host's owner chose; none of them if one is no tag.
fn chosen_tags(registration: &Registration) -> Vec<String> {
    if check_tags(&registration.tags).is_ok() { registration.tags.clone() } else { Vec::new() }
}
