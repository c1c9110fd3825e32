//! Certificates of agents within a session: what the connection showed is compared with the key pair that the
//! agent has proven, and a new one is issued when the agent has none or the last one is due.

use muster_protocol::CloseCode;
use muster_protocol::frame::{Registration, ServerFrame};
use muster_protocol::identity::{AgentPublicKey, CERTIFICATE_CAPABILITY};
use uuid::Uuid;

use super::live::{CommitAck, LiveSession};
use super::{AgentTransport, SessionEnd, SessionRequest, Sessions};
use crate::domain::certificates::client_certificate::{
    AgentClaims, KeyHash, PeerCertificate, SessionAdmission,
};
use crate::domain::time::Timestamp;
use crate::services::certificates::client_certificates::{
    AgentCertificate, IssueError, IssuedAgentCertificate,
};
use crate::store::StoreError;

impl Sessions {
    /// Compares the certificate of the connection with the key pair that the agent has proven. True if the
    /// session only enrols the agent.
    pub(super) fn admit_certificate(
        &self,
        request: &SessionRequest,
        registration: &Registration,
        public_key: Option<AgentPublicKey>,
    ) -> Result<bool, SessionEnd> {
        let agent = AgentClaims {
            key: public_key.as_ref().map(KeyHash::of_agent),
            can_store: can_store(registration),
            has_certificate: registration.has_certificate,
        };
        match self.certificates.policy().admit_session(request.certificate, agent) {
            SessionAdmission::Open => Ok(false),
            SessionAdmission::EnrolOnly => Ok(true),
            SessionAdmission::Refused(code) => {
                let key_id = request.grant.key_id;
                tracing::warn!(
                    %key_id, shown = ?request.certificate, reason = code.reason(),
                    "an agent was refused because of its certificate"
                );
                Err(SessionEnd::Closed(code))
            }
        }
    }

    /// The certificate of an agent that can store one; `None` if the server can't ask for it. To be read
    /// after the session is registered in the hub: a later revocation ends it.
    pub(super) async fn find_certificate(
        &self,
        request: &SessionRequest,
        registration: &Registration,
        public_key: Option<AgentPublicKey>,
    ) -> Result<Option<AgentCertificate>, CloseCode> {
        let Some(public_key) = public_key.filter(|_| request.certificate.is_asked()) else {
            return Ok(None);
        };
        let tenant_id = request.grant.tenant_id;
        let stored = self.certificates.expiry_of_agent(tenant_id, &public_key).await?;
        // The host has lost it, or it is from before a restore of the server.
        let is_known =
            registration.has_certificate && request.certificate != PeerCertificate::Invalid;
        let expires_at = stored.filter(|_| is_known);
        Ok(can_store(registration).then_some(AgentCertificate { public_key, expires_at }))
    }
}

/// True if the agent stores a certificate that it gets.
fn can_store(registration: &Registration) -> bool {
    registration.is_full()
        && registration.capabilities.iter().any(|name| name == CERTIFICATE_CAPABILITY)
}

impl LiveSession {
    /// Issues a certificate at the start of the session, if one is due. `is_enrolment`: the agent gets nothing
    /// else, and connects again with it.
    ///
    /// # Errors
    /// The end of the session: always for an enrolment.
    pub(super) async fn start_certificate<T: AgentTransport>(
        &mut self,
        is_enrolment: bool,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let busy = SessionEnd::Closed(CloseCode::TryAgainLater);
        let now = self.service.clock.now();
        if let Some(certificate) = self.certificate
            && (is_enrolment || self.is_certificate_due(certificate, now))
        {
            let handle = &self.handle;
            let agent = (handle.tenant_id, handle.agent_id);
            let public_key = &certificate.public_key;
            let issued =
                self.service.certificates.issue_for_agent(agent, handle.epoch, public_key).await;
            match issued {
                Ok(issued) => self.send_certificate(issued, transport).await?,
                Err(error) => {
                    self.report(&error);
                    if is_enrolment {
                        return Err(busy);
                    }
                }
            }
        }
        self.send_notice(transport).await?;
        if is_enrolment {
            transport.feed(&ServerFrame::Drain { reconnect_delay_ms: 0 }).await?;
            transport.flush().await?;
            return Err(SessionEnd::Drained);
        }
        Ok(transport.flush().await?)
    }

    /// Issues the next certificate when the last one is due. Called with each heartbeat.
    pub(super) fn renew_certificate(&mut self) {
        let now = self.service.clock.now();
        let Some(certificate) = self.certificate.filter(|it| self.is_certificate_due(*it, now))
        else {
            return;
        };
        // Not again while this one is issued. If it fails, the next session tries again.
        self.certificate = None;
        let (service, handle) = (self.service.clone(), self.handle.clone());
        self.pending.push_back(Box::pin(async move {
            let agent = (handle.tenant_id, handle.agent_id);
            let public_key = certificate.public_key;
            let issued =
                service.certificates.issue_for_agent(agent, handle.epoch, &public_key).await;
            match issued {
                Ok(issued) => Ok(CommitAck::Certificate { public_key, issued }),
                Err(IssueError::Store(StoreError::StaleEpoch)) => Err(StoreError::StaleEpoch),
                Err(error) => {
                    let agent_id = handle.agent_id;
                    tracing::warn!(%agent_id, %error, "failed to renew the certificate of an agent");
                    Ok(CommitAck::None)
                }
            }
        }));
    }

    /// Sends a certificate that is stored.
    pub(super) async fn send_certificate<T: AgentTransport>(
        &mut self,
        issued: IssuedAgentCertificate,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let IssuedAgentCertificate { certificate, expires_at } = issued;
        if let Some(known) = &mut self.certificate {
            known.expires_at = Some(expires_at);
        }
        tracing::info!(
            agent_id = %self.handle.agent_id, %expires_at, "issued a certificate for an agent"
        );
        Ok(transport.feed(&ServerFrame::Certificate { certificate }).await?)
    }

    /// True if the agent needs a certificate now: also if another authority signs since its last one.
    fn is_certificate_due(&self, certificate: AgentCertificate, now: Timestamp) -> bool {
        let signs_since = self.service.certificates.signs_since();
        certificate.is_due(now) || certificate.is_issued_before(signs_since)
    }

    /// Sends what the agent must know of the server's authority, unless it knows it.
    pub(super) async fn send_notice<T: AgentTransport>(
        &mut self,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        if !self.notices.can_follow {
            return Ok(());
        }
        let agent_id = self.handle.agent_id;
        let Some(id) = self.service.certificates.notice_id() else { return Ok(()) };
        if [self.notices.stored, self.notices.sent].contains(&Some(id)) {
            return Ok(());
        }
        match self.service.certificates.notice() {
            Ok(Some(notice)) => {
                self.notices.sent = Some(notice.id);
                Ok(transport.feed(&ServerFrame::Authorities(Box::new(notice))).await?)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(%agent_id, %error, "failed to make a notice about the authority");
                Ok(())
            }
        }
    }

    /// Records that the agent has stored a notice. Only the last one counts.
    pub(super) fn notice_stored(&mut self, id: Uuid) -> Result<(), SessionEnd> {
        if self.notices.sent != Some(id) || self.notices.stored == Some(id) {
            return Ok(());
        }
        self.notices.stored = Some(id);
        let (service, handle) = (self.service.clone(), self.handle.clone());
        self.pending.push_back(Box::pin(async move {
            let tenant = service.store.tenant(handle.tenant_id);
            tenant.confirm_notice(handle.agent_id, handle.epoch, id).await?;
            Ok(CommitAck::None)
        }));
        Ok(())
    }

    fn report(&self, error: &IssueError) {
        let agent_id = self.handle.agent_id;
        tracing::warn!(%agent_id, %error, "failed to issue a certificate for an agent");
    }
}
