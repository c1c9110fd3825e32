//! Who asks, from where, and the audit entry of what it did.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::access::principal::ActorKind;
use crate::domain::access::principal::{Principal, Scope};
use crate::domain::ids::AuditId;
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::audit_entry;

/// A principal at work.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Arc<Principal>,
    /// The address it asks from.
    pub source: Option<String>,
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
        if self.principal.may(scope) { Ok(()) } else { Err(ServiceError::missing_scope(scope)) }
    }

    /// The entry that goes into the transaction of what it did. `detail` holds no secret.
    pub fn audit(
        &self,
        action: &str,
        subject: Subject,
        detail: &Value,
        now: Timestamp,
    ) -> audit_entry::Model {
        audit_entry::Model {
            id: AuditId::new(),
            tenant_id: self.principal.tenant_id,
            at: now,
            actor_kind: ActorKind::ApiKey,
            actor_id: Some(self.principal.id.0),
            action: action.to_owned(),
            subject_kind: subject.kind.to_owned(),
            subject_id: Some(subject.id),
            detail: detail.to_string(),
            source: self.source.clone(),
        }
    }
}
