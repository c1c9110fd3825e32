//! The caller of a use case, and audit entries of what callers and the server itself change.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::access::principal::ActorKind;
use crate::domain::access::principal::{Principal, Scope};
use crate::domain::ids::{AuditId, TenantId};
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::audit_entry;

/// An authenticated principal and where its request came from.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Arc<Principal>,
    /// The client's address.
    pub source: Option<String>,
}

/// The resource that an audit entry is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    pub kind: &'static str,
    pub id: Uuid,
}

impl Caller {
    /// # Errors
    /// [`ServiceError::Forbidden`] if the principal lacks the scope.
    pub fn require(&self, scope: Scope) -> Result<()> {
        if self.principal.may(scope) { Ok(()) } else { Err(ServiceError::missing_scope(scope)) }
    }

    /// The audit entry of a change by this caller, for the transaction of the change. `detail` must
    /// not contain secrets.
    pub fn audit(
        &self,
        action: &str,
        subject: Subject,
        detail: &Value,
        now: Timestamp,
    ) -> audit_entry::Model {
        audit_entry::Model {
            actor_kind: ActorKind::ApiKey,
            actor_id: Some(self.principal.id.0),
            source: self.source.clone(),
            ..system_audit(self.principal.tenant_id, action, subject, detail, now)
        }
    }
}

/// The audit entry of a change that the server made by itself.
pub(in crate::services) fn system_audit(
    tenant_id: TenantId,
    action: &str,
    subject: Subject,
    detail: &Value,
    now: Timestamp,
) -> audit_entry::Model {
    audit_entry::Model {
        id: AuditId::new(),
        tenant_id,
        at: now,
        actor_kind: ActorKind::System,
        actor_id: None,
        action: action.to_owned(),
        subject_kind: subject.kind.to_owned(),
        subject_id: Some(subject.id),
        detail: detail.to_string(),
        source: None,
    }
}
