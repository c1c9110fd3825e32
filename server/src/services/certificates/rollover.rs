//! The rollover of the server's authority, for the operator: announce, switch, retire.

use muster_protocol::frame::{AuthorityNotice, Registration};
use muster_protocol::identity::AUTHORITIES_CAPABILITY;
use serde_json::json;
use uuid::Uuid;

use super::authority::{AuthorityError, AuthorityStatus, ServerAuthority};
use super::client_certificates::{ClientCertificates, no_certificates};
use crate::domain::access::principal::Scope;
use crate::domain::certificates::rollover::{
    MAX_LISTED_AGENTS, MAX_NAMED_AGENTS, RolloverAction, RolloverRefusal, RolloverState,
    UnconfirmedAgent, UnconfirmedAgents,
};
use crate::domain::time::Timestamp;
use crate::hub::SessionMessage;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::people::confirmation::require_confirmed_if_person;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::AuthorityChange;

/// Attempts to store a step while other processes change the record.
const ATTEMPTS: u32 = 3;

/// How far a rollover is, and who would be stranded by its end.
#[derive(Debug)]
pub struct RolloverStatus {
    pub authority: AuthorityStatus,
    /// Agents that have stored the new authority.
    pub confirmed_count: u64,
    pub unconfirmed: UnconfirmedAgents,
    /// Certificates of people and programs that end when the former authority is retired.
    pub earlier_certificate_count: u64,
    /// The first of the unconfirmed agents.
    pub agents: Vec<UnconfirmedAgent>,
}

/// What a session knows of notices about the server's authority.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::services) struct NoticeState {
    /// The agent reads them.
    pub can_follow: bool,
    /// The last one that the agent has stored.
    pub stored: Option<Uuid>,
    /// The last one that was sent. It is sent once: an agent that refuses it refuses it again.
    pub sent: Option<Uuid>,
}

impl NoticeState {
    /// Of an agent that registers.
    pub fn of(registration: &Registration) -> Self {
        let can_follow = registration.is_full()
            && registration.capabilities.iter().any(|name| name == AUTHORITIES_CAPABILITY);
        Self { can_follow, stored: registration.authorities_id, sent: None }
    }
}

impl ClientCertificates {
    /// How far the rollover is. Without one: who would be stranded if it happened now.
    pub async fn rollover(&self, caller: &Caller) -> Result<RolloverStatus> {
        caller.require(Scope::TenantsManage)?;
        let authority = self.authority.as_ref().ok_or_else(no_certificates)?;
        self.rollover_status(authority).await
    }

    /// Takes a step of the rollover. `is_forced`: also if agents would not follow.
    ///
    /// # Errors
    /// 409 `no_certificates`, `rollover_state`, `agents_unconfirmed`; 403 `confirmation_required`.
    pub async fn step_rollover(
        &self,
        caller: &Caller,
        action: RolloverAction,
        is_forced: bool,
    ) -> Result<RolloverStatus> {
        caller.require(Scope::TenantsManage)?;
        let authority = self.authority.as_ref().ok_or_else(no_certificates)?;
        require_confirmed_if_person(&self.store, &self.clock, caller).await?;
        for _ in 0..ATTEMPTS {
            self.reload_authority().await.map_err(unusable)?;
            let status = authority.status();
            let unconfirmed = self.unconfirmed(authority, &status).await?;
            if let Err(refusal) = status.rollover.after(action, unconfirmed, is_forced) {
                return Err(self.refused(refusal, authority, &status).await?);
            }
            let change = self.change(caller, action, unconfirmed, authority.signs_since());
            if authority.step(action, change).await.map_err(unusable)? {
                tracing::info!(step = <&str>::from(action), is_forced, "changed the authority");
                self.notify_sessions();
                return self.rollover_status(authority).await;
            }
        }
        let detail = "another process changes the authority now; try again";
        Err(ServiceError::Busy { code: "server_busy", detail })
    }

    /// Reads the authority again, which another process may have changed.
    ///
    /// # Errors
    /// [`AuthorityError`]; the present one stays in use.
    pub async fn reload_authority(&self) -> std::result::Result<(), AuthorityError> {
        if let Some(authority) = &self.authority
            && authority.reload().await?
        {
            tracing::info!("another process has changed the authority");
            self.notify_sessions();
        }
        Ok(())
    }

    /// What agents must know of the authorities.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub(in crate::services) fn notice(
        &self,
    ) -> std::result::Result<Option<AuthorityNotice>, AuthorityError> {
        let serving = self.authority.as_ref().filter(|authority| authority.is_serving());
        serving.map_or(Ok(None), ServerAuthority::notice)
    }

    /// The id of [`Self::notice`].
    pub(in crate::services) fn notice_id(&self) -> Option<Uuid> {
        let serving = self.authority.as_ref().filter(|authority| authority.is_serving());
        serving.and_then(|authority| authority.status().notice_id)
    }

    /// Certificates of clients that were issued before this come from an earlier authority.
    pub(in crate::services) fn signs_since(&self) -> Option<Timestamp> {
        self.authority.as_ref().and_then(ServerAuthority::signs_since)
    }

    /// An agent whose mailbox is full gets the notice with its next heartbeat.
    fn notify_sessions(&self) {
        for session in self.hub.sessions() {
            session.send_if_free(SessionMessage::Authorities);
        }
    }

    fn change(
        &self,
        caller: &Caller,
        action: RolloverAction,
        unconfirmed: UnconfirmedAgents,
        signs_since: Option<Timestamp>,
    ) -> AuthorityChange {
        let now = self.clock.now();
        let detail = json!({
            "online_unconfirmed_count": unconfirmed.online,
            "offline_unconfirmed_count": unconfirmed.offline,
        });
        let subject = Subject { kind: "authority", id: Uuid::nil() };
        let name = match action {
            RolloverAction::Announce => "authority.announce",
            RolloverAction::Switch => "authority.switch",
            RolloverAction::Retire => "authority.retire",
            RolloverAction::Abort => "authority.abort",
        };
        let is_end = action == RolloverAction::Retire;
        AuthorityChange {
            end_certificates: signs_since.filter(|_| is_end).map(|since| (since, now)),
            audit: caller.audit(name, subject, &detail, now),
        }
    }

    async fn rollover_status(&self, authority: &ServerAuthority) -> Result<RolloverStatus> {
        let status = authority.status();
        let unconfirmed = self.unconfirmed(authority, &status).await?;
        let (system, now) = (self.store.system(), self.clock.now());
        let notice_id = status.notice_id.filter(|_| status.rollover != RolloverState::None);
        let confirmed_count = match notice_id {
            Some(id) => system.count_confirmed_agents(id).await?,
            None => 0,
        };
        let issued_before = match status.rollover {
            RolloverState::Switched => authority.signs_since().unwrap_or(now),
            RolloverState::None | RolloverState::Announced => now,
        };
        let agents = self.first_unconfirmed(authority, &status, MAX_LISTED_AGENTS).await?;
        Ok(RolloverStatus {
            earlier_certificate_count: system
                .count_earlier_certificates(issued_before, now)
                .await?,
            authority: status,
            confirmed_count,
            unconfirmed,
            agents,
        })
    }

    async fn unconfirmed(
        &self,
        authority: &ServerAuthority,
        status: &AuthorityStatus,
    ) -> Result<UnconfirmedAgents> {
        // A certificate from files is trusted for another reason.
        if !authority.is_serving() {
            return Ok(UnconfirmedAgents::default());
        }
        let notice_id = status.notice_id.filter(|_| status.rollover != RolloverState::None);
        Ok(self.store.system().count_unconfirmed_agents(notice_id).await?)
    }

    async fn first_unconfirmed(
        &self,
        authority: &ServerAuthority,
        status: &AuthorityStatus,
        limit: u64,
    ) -> Result<Vec<UnconfirmedAgent>> {
        if !authority.is_serving() {
            return Ok(Vec::new());
        }
        let notice_id = status.notice_id.filter(|_| status.rollover != RolloverState::None);
        let rows = self.store.system().unconfirmed_agents(notice_id, limit).await?;
        let agents = rows.into_iter().map(|row| UnconfirmedAgent {
            tenant_id: row.tenant_id,
            agent_id: row.id,
            name: row.name,
            can_follow: row.capabilities.0.iter().any(|name| name == AUTHORITIES_CAPABILITY),
            is_online: row.is_online,
            last_seen_at: row.last_seen_at,
        });
        Ok(agents.collect())
    }

    /// The refusal, with the names of the agents that it is about.
    async fn refused(
        &self,
        refusal: RolloverRefusal,
        authority: &ServerAuthority,
        status: &AuthorityStatus,
    ) -> Result<ServiceError> {
        let is_about_agents = matches!(
            refusal,
            RolloverRefusal::OnlineUnconfirmed { .. } | RolloverRefusal::Stranded { .. }
        );
        if !is_about_agents {
            let detail = refusal.to_string();
            return Ok(ServiceError::Conflict { code: "rollover_state", detail });
        }
        let agents = self.first_unconfirmed(authority, status, MAX_NAMED_AGENTS as u64).await?;
        let is_named = |agent: &&UnconfirmedAgent| {
            agent.is_online || matches!(refusal, RolloverRefusal::Stranded { .. })
        };
        let names: Vec<_> = agents.iter().filter(is_named).map(|it| it.name.as_str()).collect();
        let detail = format!("{refusal}: {}; `force` takes the step anyway", names.join(", "));
        Ok(ServiceError::Conflict { code: "agents_unconfirmed", detail })
    }
}

fn unusable(error: AuthorityError) -> ServiceError {
    match error {
        AuthorityError::Store(error) => error.into(),
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "the authority is unusable");
            let detail = "the authority of this server can't be used; see its log";
            ServiceError::Busy { code: "server_busy", detail }
        }
    }
}
