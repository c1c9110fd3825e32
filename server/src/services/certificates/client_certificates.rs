//! Certificates of clients: issued over keys that they have proven, and looked up when they are shown.

use std::sync::Arc;

use data_encoding::BASE64;
use muster_protocol::CloseCode;
use muster_protocol::identity::AgentPublicKey;
use serde_json::json;
use strum::IntoEnumIterator as _;

use super::authority::{AuthorityError, AuthorityStatus, ServedCertificate, ServerAuthority};
use crate::domain::access::principal::{Principal, PrincipalKind, Scope};
use crate::domain::certificates::client_certificate::{
    CertificateHolder, CertificatePolicy, CertificateState, ClientCertificateRecord, KeyHash,
    MAX_REQUEST_BYTES, NEXT_CERTIFICATE_MS, PeerCertificate,
};
use crate::domain::certificates::validity::{AGENT_CERTIFICATE_MS, Validity};
use crate::domain::commands::work::WorkKind;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::ids::{AgentId, ApiKeyId, CertificateId, TenantId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::keys::api_keys::check_held;
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::people::confirmation::require_confirmed_if_person;
use crate::services::access::work_guard::WorkGuard;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::certificates::client_certificate;
use crate::store::queries::{CallerCertificate, OwnCertificate};
use crate::store::{Store, StoreError};

/// The answer to an id that the tenant does not have.
const UNKNOWN: ServiceError = ServiceError::NotFound("certificate");

/// Use cases of the certificates of clients.
#[derive(Debug, Clone)]
pub struct ClientCertificates {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) guard: WorkGuard,
    /// `None` if this server does not end TLS.
    pub(in crate::services) authority: Option<ServerAuthority>,
    pub(in crate::services) policy: CertificatePolicy,
}

/// What clients must show, and how many certificates there are.
#[derive(Debug)]
pub struct CertificatesStatus {
    pub policy: CertificatePolicy,
    /// False if this server does not end TLS.
    pub is_issuing: bool,
    /// The certificate that new connections are shown.
    pub served: Option<ServedCertificate>,
    pub authority: Option<AuthorityStatus>,
    pub counts: Vec<(CertificateState, u64)>,
}

/// The certificate of an agent, as its session knows it.
#[derive(Debug, Clone, Copy)]
pub struct AgentCertificate {
    pub public_key: AgentPublicKey,
    /// When the last one ends; `None` if the agent has none that counts.
    pub expires_at: Option<Timestamp>,
}

/// A certificate of an agent that was just issued and stored.
#[derive(Debug)]
pub struct IssuedAgentCertificate {
    /// DER, base64.
    pub certificate: String,
    pub expires_at: Timestamp,
}

/// The certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("this server does not issue certificates")]
    NoAuthority,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AgentCertificate {
    /// True if the agent needs one now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| Validity::until(at, AGENT_CERTIFICATE_MS).is_due(now))
    }

    /// True if it comes from an authority that no longer signs.
    pub fn is_issued_before(&self, signs_since: Option<Timestamp>) -> bool {
        let issued_at = self.expires_at.map(|at| at.minus_ms(AGENT_CERTIFICATE_MS));
        issued_at.zip(signs_since).is_some_and(|(issued_at, since)| issued_at < since)
    }
}

impl ClientCertificates {
    /// Which clients must show a certificate.
    pub fn policy(&self) -> CertificatePolicy {
        self.policy
    }

    /// When the last certificate of an agent's key pair ends; `None` if there is none.
    ///
    /// # Errors
    /// The code to end the session with, if it was revoked or the database fails.
    pub async fn expiry_of_agent(
        &self,
        tenant_id: TenantId,
        key: &AgentPublicKey,
    ) -> std::result::Result<Option<Timestamp>, CloseCode> {
        let found = self.store.tenant(tenant_id).certificate_of_key(KeyHash::of_agent(key)).await;
        let row = found.map_err(|error| {
            tracing::warn!(%error, "failed to look up the certificate of an agent");
            CloseCode::TryAgainLater
        })?;
        match row {
            Some(row) if row.revoked_at.is_some() => Err(CloseCode::CertificateRevoked),
            row => Ok(row.map(|row| row.expires_at)),
        }
    }

    /// Checks a request of an agent outside of a session, which is authenticated by its agent key alone.
    ///
    /// # Errors
    /// Why it is refused: where agents must show a certificate, it must be one of an agent of the tenant.
    pub async fn check_agent_request(
        &self,
        tenant_id: TenantId,
        shown: PeerCertificate,
    ) -> std::result::Result<(), CloseCode> {
        self.policy.check_agent(shown)?;
        let Some(key) = shown.key().filter(|_| self.policy != CertificatePolicy::Off) else {
            return Ok(());
        };
        match self.store.tenant(tenant_id).certificate_of_key(key).await {
            Ok(Some(row)) if row.revoked_at.is_some() => Err(CloseCode::CertificateRevoked),
            Ok(Some(row)) if row.holder == CertificateHolder::Agent => Ok(()),
            Ok(_) => Err(CloseCode::CertificateMismatch),
            Err(error) => {
                tracing::warn!(%error, "failed to look up the certificate of an agent");
                Err(CloseCode::TryAgainLater)
            }
        }
    }

    /// Issues a certificate over the key pair that an agent has proven in its session with this epoch.
    ///
    /// # Errors
    /// [`IssueError`]
    pub async fn issue_for_agent(
        &self,
        (tenant_id, agent_id): (TenantId, AgentId),
        epoch: i64,
        key: &AgentPublicKey,
    ) -> std::result::Result<IssuedAgentCertificate, IssueError> {
        let authority = self.authority.as_ref().ok_or(IssueError::NoAuthority)?;
        let (certificate, validity) = authority.issue_agent_certificate(agent_id, key)?;
        let row = client_certificate::Model {
            id: CertificateId::new(),
            tenant_id,
            holder: CertificateHolder::Agent,
            holder_id: agent_id.0,
            key_hash: KeyHash::of_agent(key).as_bytes().to_vec(),
            issued_at: self.clock.now(),
            expires_at: validity.not_after,
            revoked_at: None,
            next_until: None,
        };
        self.store.tenant(tenant_id).store_agent_certificate(agent_id, epoch, row).await?;
        let certificate = BASE64.encode(&certificate);
        Ok(IssuedAgentCertificate { certificate, expires_at: validity.not_after })
    }

    /// Issues a certificate to the caller, for the key of a certificate request in PEM. If the caller ever had a
    /// certificate, its connection must have shown a valid one, or another must have allowed it.
    ///
    /// # Errors
    /// 409 `no_certificates`, `certificate_exists`, `too_many_certificates`, `certificate_key_taken`;
    /// 422 `invalid_field`.
    pub async fn issue_for_caller(
        &self,
        caller: &Caller,
        request: &str,
        shown: PeerCertificate,
    ) -> Result<(ClientCertificateRecord, String)> {
        let authority = self.authority.as_ref().ok_or_else(no_certificates)?;
        let Principal { tenant_id, id: holder_id, kind, .. } = *caller.principal;
        let (holder, name) = match kind {
            PrincipalKind::ApiKey => (CertificateHolder::ApiKey, "API key"),
            _ => (CertificateHolder::Member, "member"),
        };
        let invalid = |detail: String| ServiceError::InvalidField {
            detail,
            error: FieldError::new("request", FieldErrorCode::Invalid),
        };
        if request.len() > MAX_REQUEST_BYTES {
            return Err(invalid(format!("`request` is longer than {MAX_REQUEST_BYTES} bytes")));
        }
        let name = format!("Muster {name} {}", holder_id.0);
        let issued = authority.issue_requested_certificate(&name, request);
        let (certificate, key, validity) = issued.map_err(|error| {
            tracing::debug!(%error, "a certificate request can't be used");
            invalid("`request` is not a certificate request in PEM with a supported key".into())
        })?;
        let now = self.clock.now();
        let row = client_certificate::Model {
            id: CertificateId::new(),
            tenant_id,
            holder,
            holder_id: holder_id.0,
            key_hash: key.as_bytes().to_vec(),
            issued_at: now,
            expires_at: validity.not_after,
            revoked_at: None,
            next_until: None,
        };
        let subject = Subject { kind: "certificate", id: row.id.0 };
        let audit = caller.audit("certificate.create", subject, &json!({}), now);
        let tenant = self.store.tenant(tenant_id);
        let stored = tenant.store_caller_certificate(row.clone(), shown.key(), audit).await?;
        let (code, detail) = match stored {
            CallerCertificate::Stored => return Ok((row.into(), certificate)),
            CallerCertificate::NotShown => (
                "certificate_exists",
                "you have a certificate, or had one; show a valid one on the connection of this request, or ask an administrator to allow another one: `muster ca revoke ID --allow-next`",
            ),
            CallerCertificate::TooMany => (
                "too_many_certificates",
                "you have as many valid certificates as you may have; let one be revoked, or wait until one expires",
            ),
            CallerCertificate::KeyTaken => (
                "certificate_key_taken",
                "this key was used for another certificate; make a new one",
            ),
        };
        Err(ServiceError::Conflict { code, detail: detail.to_owned() })
    }

    /// Checks the certificate of a connection against who asks over it. Returns the one that the caller needs.
    ///
    /// # Errors
    /// 403 `certificate_required`, where people and programs must show one of their own.
    pub async fn check_caller(
        &self,
        principal: &Principal,
        shown: PeerCertificate,
    ) -> Result<Option<KeyHash>> {
        if self.policy != CertificatePolicy::All {
            return Ok(None);
        }
        let refused = |detail: &str| ServiceError::Forbidden {
            code: "certificate_required",
            detail: detail.to_owned(),
        };
        let key = shown.key().ok_or_else(|| {
            refused("this server requires a certificate; run `muster login --certificate`")
        })?;
        let row = self.store.tenant(principal.tenant_id).certificate_of_key(key).await?;
        match row {
            Some(row) if row.holder_id != principal.id.0 => {
                Err(refused("the certificate of the connection is that of another key or person"))
            }
            Some(row) if row.revoked_at.is_some() => {
                Err(refused("the certificate of the connection was revoked"))
            }
            // The connection may be older than that.
            Some(row) if row.expires_at <= self.clock.now() => Err(refused(
                "the certificate of the connection has expired; run `muster login --certificate`",
            )),
            Some(_) => Ok(Some(key)),
            None => Err(refused("the certificate of the connection is not known in this tenant")),
        }
    }

    /// One page of the tenant's certificates, oldest first.
    pub async fn list(
        &self,
        caller: &Caller,
        state: Option<CertificateState>,
        page: PageRequest,
    ) -> Result<Page<ClientCertificateRecord>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.certificates(state, self.clock.now(), page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(ClientCertificateRecord::from))
    }

    /// What clients must show, and how many certificates of the tenant are in each state.
    pub async fn status(&self, caller: &Caller) -> Result<CertificatesStatus> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let now = self.clock.now();
        let mut counts = Vec::new();
        for state in CertificateState::iter() {
            counts.push((state, tenant.count_certificates(state, now).await?));
        }
        Ok(CertificatesStatus {
            policy: self.policy,
            is_issuing: self.authority.is_some(),
            served: self.authority.as_ref().and_then(ServerAuthority::served),
            authority: self.authority.as_ref().map(ServerAuthority::status),
            counts,
        })
    }

    /// The certificates of the server itself, and when they end.
    pub fn own_certificates(&self) -> Vec<(OwnCertificate, Timestamp)> {
        let Some(authority) = &self.authority else { return Vec::new() };
        let served = authority.served().map(|served| (OwnCertificate::Server, served.expires_at));
        let own = (OwnCertificate::Authority, authority.status().expires_at);
        served.into_iter().chain([own]).collect()
    }

    /// Revokes a certificate for good, and ends the session of its agent. The limits of the caller's key hold for
    /// the agent. That of another key needs `api_keys:write` too, and a caller that could have created the key; that
    /// of another member needs `members:write`. `allows_next`: the holder may get another one for a day without
    /// showing a valid one. A key can't allow that to itself, and a person needs a new proof of the password.
    ///
    /// # Errors
    /// 403 `key_not_held`, `outside_key_target`, `confirmation_required`; 404; 409 `no_certificates`; 422
    /// `invalid_field` to allow it to an agent.
    pub async fn revoke(
        &self,
        caller: &Caller,
        id: CertificateId,
        allows_next: bool,
    ) -> Result<()> {
        caller.require(Scope::AgentsWrite)?;
        if self.authority.is_none() {
            return Err(no_certificates());
        }
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let known = tenant.certificate(id).await?.ok_or(UNKNOWN)?;
        // Without it, its holder may be locked out.
        match known.holder {
            CertificateHolder::Agent if allows_next => {
                let problem = "is for people and API keys; delete the agent and install it again";
                return Err(ServiceError::invalid_field("allow_next", problem));
            }
            CertificateHolder::Agent => {
                let agents = [AgentId(known.holder_id)];
                self.guard.check_limits(caller, WorkKind::AgentChange, &agents).await?;
            }
            CertificateHolder::ApiKey if known.holder_id == caller.principal.id.0 => {
                if allows_next {
                    return Err(ServiceError::Forbidden {
                        code: "key_not_held",
                        detail: "a key can't allow itself another certificate; use the key or the person that manages it".into(),
                    });
                }
            }
            CertificateHolder::ApiKey => {
                caller.require(Scope::ApiKeysWrite)?;
                // The certificates of a key that is gone are gone too.
                let key = tenant.api_key(ApiKeyId(known.holder_id)).await?.ok_or(UNKNOWN)?;
                check_held(caller, &key)?;
            }
            CertificateHolder::Member if known.holder_id == caller.principal.id.0 => {}
            CertificateHolder::Member => caller.require(Scope::MembersWrite)?,
        }
        let now = self.clock.now();
        let next_until = match allows_next {
            true => {
                require_confirmed_if_person(&self.store, &self.clock, caller).await?;
                Some(now.plus_ms(NEXT_CERTIFICATE_MS))
            }
            false => None,
        };
        let subject = Subject { kind: "certificate", id: id.0 };
        let detail = json!({"holder_id": known.holder_id, "allow_next": allows_next});
        let audit = caller.audit("certificate.revoke", subject, &detail, now);
        let revoked = tenant.revoke_certificate(id, now, next_until, audit).await?;
        let row = revoked.ok_or(UNKNOWN)?;
        if row.holder == CertificateHolder::Agent
            && let Some(session) = self.hub.session(AgentId(row.holder_id))
        {
            session.close(CloseCode::CertificateRevoked);
        }
        if row.holder != CertificateHolder::Agent {
            // What the holder has under way checks its certificate again.
            self.cache.forget_principals();
        }
        Ok(())
    }
}

/// The answer of a server that does not end TLS, and so can't check certificates.
pub(super) fn no_certificates() -> ServiceError {
    ServiceError::Conflict {
        code: "no_certificates",
        detail: "this server does not end TLS, so it issues and checks no certificates; see --tls"
            .into(),
    }
}
