//! Who asks, from where, and the audit entry of what it did.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::access::principal::ActorKind;
use crate::domain::access::principal::{Principal, Scope};
use crate::domain::certificates::client_certificate::KeyHash;
use crate::domain::ids::{AgentId, AuditId, MemberId, PrincipalId, SessionId, TenantId};
use crate::domain::source::ClientSource;
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::audit_entry;

/// A principal at work.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Arc<Principal>,
    /// The address it asks from.
    pub source: Option<String>,
    /// The id of its request, for logs.
    pub request_id: Option<Arc<str>>,
    /// The certificate of its connection, where one is required: what it has under way ends with it.
    pub certificate: Option<KeyHash>,
}

/// Where a request comes from whose sender is not known yet.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The address, for limits.
    pub limited_as: Option<ClientSource>,
    /// The same, for the audit log.
    pub source: Option<String>,
    /// The id of its request, for logs.
    pub request_id: Option<Arc<str>>,
}

/// What an audit entry speaks of.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    pub kind: &'static str,
    pub id: Uuid,
}

impl Caller {
    /// # Errors
    /// [`ServiceError::Forbidden`] if the principal lacks the scope.
    pub fn require(&self, scope: Scope) -> Result<()> {
        match self.principal.may(scope) {
            true => Ok(()),
            false => Err(ServiceError::missing_scope(&self.principal, scope)),
        }
    }

    /// Checks the right to cancel, pause, resume or abort work. Call [`Self::require_own_control`]
    /// first, and read whose work it is within the tenant.
    ///
    /// # Errors
    /// [`ServiceError::Forbidden`] if another key requested the work and the principal lacks
    /// `commands:manage`, or if it requested the work itself and lacks `commands:run`.
    pub fn require_control(&self, requested_by: PrincipalId) -> Result<()> {
        if self.principal.may(Scope::CommandsManage) {
            return Ok(());
        }
        self.require(match requested_by == self.principal.id {
            true => Scope::CommandsRun,
            false => Scope::CommandsManage,
        })
    }

    /// The least right to cancel, pause, resume or abort anything, checked before it is known whose
    /// work it is.
    ///
    /// # Errors
    /// [`ServiceError::Forbidden`] if the principal has neither `commands:run` nor `commands:manage`.
    pub fn require_own_control(&self) -> Result<()> {
        self.require_control(self.principal.id)
    }

    /// True for a caller who may see where the webhooks of others are sent: their paths are often secret.
    pub fn may_see_webhook_urls(&self) -> bool {
        self.principal.may(Scope::CommandsManage) || self.principal.may(Scope::WebhooksWrite)
    }

    /// Where it asks from.
    pub fn client(&self) -> Client {
        let address = self.source.as_deref().and_then(|source| source.parse().ok());
        let (limited_as, source) = (address.map(ClientSource::of), self.source.clone());
        Client { limited_as, source, request_id: self.request_id.clone() }
    }

    /// The entry that goes into the transaction of what it did. `detail` holds no secret.
    pub fn audit(
        &self,
        action: &str,
        subject: Subject,
        detail: &Value,
        now: Timestamp,
    ) -> audit_entry::Model {
        let tenant_id = self.principal.tenant_id;
        let action = AuditAction { tenant_id, action, subject, detail, at: now };
        let principal = &self.principal;
        let entry = action.entry(principal.actor_kind(), Some(principal.id.0));
        let (session_id, source) = (principal.session_id(), self.source.clone());
        audit_entry::Model { session_id, source, ..entry }
    }
}

/// An action for the audit log. `detail` holds no secret.
#[derive(Debug, Clone, Copy)]
pub struct AuditAction<'a> {
    pub tenant_id: TenantId,
    /// `<subject>.<verb>`, as in `job.halt`.
    pub action: &'a str,
    pub subject: Subject,
    pub detail: &'a Value,
    pub at: Timestamp,
}

impl AuditAction<'_> {
    /// The entry of an action that the server takes by itself.
    pub fn by_system(self) -> audit_entry::Model {
        self.entry(ActorKind::System, None)
    }

    /// The entry of an action of a member, in its session.
    pub fn by_member(
        self,
        id: MemberId,
        session_id: Option<SessionId>,
        client: &Client,
    ) -> audit_entry::Model {
        let entry = self.entry(ActorKind::Member, Some(id.0));
        audit_entry::Model { session_id, source: client.source.clone(), ..entry }
    }

    /// The entry of an action that an agent requested.
    pub fn by_agent(self, id: AgentId) -> audit_entry::Model {
        self.entry(ActorKind::Agent, Some(id.0))
    }

    fn entry(self, actor_kind: ActorKind, actor_id: Option<Uuid>) -> audit_entry::Model {
        audit_entry::Model {
            id: AuditId::new(),
            tenant_id: self.tenant_id,
            link: 0,
            at: self.at,
            actor_kind,
            actor_id,
            session_id: None,
            action: self.action.to_owned(),
            subject_kind: self.subject.kind.to_owned(),
            subject_id: Some(self.subject.id),
            detail: self.detail.to_string(),
            source: None,
        }
    }
}
