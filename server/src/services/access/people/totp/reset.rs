//! The second factor of a person who lost it, reset by the operator at the terminal.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::adapters::smtp::client::SmtpClient;
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::PrincipalId;
use crate::domain::origin::Origin;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::services::access::caller::{AuditAction, Subject};
use crate::services::access::mails::{Letter, Mails};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::{audit_entry, member, tenant};
use crate::store::queries::ReportedChange;

/// Resets second factors, while no server runs.
#[derive(Debug)]
pub struct SecondFactorReset {
    store: Store,
    clock: Clock,
    mails: Mails,
}

impl SecondFactorReset {
    /// Over this store alone. Mails are stored, and sent by the server when it starts.
    pub fn new(
        store: Store,
        clock: Clock,
        secret_box: SecretBox,
        (client, server): (SmtpClient, Option<Origin>),
    ) -> Self {
        let mails = Mails {
            store: store.clone(),
            clock: clock.clone(),
            secret_box,
            client,
            first_retry: Duration::ZERO,
            server,
            queued: Arc::default(),
        };
        Self { store, clock, mails }
    }

    /// Deletes the second factor and the recovery codes of the person with this address, and ends the person's
    /// sessions. The password stays. Returns the address.
    ///
    /// # Errors
    /// 422 for an address, 404 for one without an account, 409 `second_factor_missing`.
    pub async fn reset(&self, email: &str) -> Result<String> {
        let email = EmailAddress::parse(email)
            .map_err(|problem| ServiceError::invalid_field("email", &problem.to_string()))?;
        let system = self.store.system();
        let user = system.user(email.as_str()).await?.ok_or(ServiceError::NotFound("account"))?;
        let now = self.clock.now();
        let entry = |(member, tenant): (member::Model, tenant::Model)| {
            let action = AuditAction {
                tenant_id: tenant.id,
                action: "totp.reset",
                subject: Subject { kind: "member", id: member.id.0 },
                detail: &json!({}),
                at: now,
            };
            let actor_id = Some(PrincipalId::OPERATOR.0);
            let actor_kind = ActorKind::Operator;
            audit_entry::Model { actor_kind, actor_id, ..action.by_system() }
        };
        let audits = system.memberships(user.id).await?.into_iter().map(entry).collect();
        let notice = self.mails.notice(&user.email, &Letter::SecondFactorDisabled)?;
        match system.reset_totp(user.id, now, ReportedChange { audits, notice }).await? {
            true => Ok(user.email),
            false => Err(ServiceError::Conflict {
                code: "second_factor_missing",
                detail: "the account has no second factor".into(),
            }),
        }
    }
}
