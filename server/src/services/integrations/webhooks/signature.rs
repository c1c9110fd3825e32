//! The secrets that sign webhooks: one for each URL, derived from one key of the tenant.

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Webhooks, check_url};
use crate::domain::access::credential::NoRandomness;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{TenantId, WebhookKeyId};
use crate::domain::integrations::webhook::signature::{ROOT_BYTES, SigningSecret};
use crate::domain::time::Timestamp;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::integrations::webhook_key;

/// The purpose that the sealed key is bound to.
pub const FIELD: &str = "webhook_keys.sealed";
/// How long messages also carry the signature of the previous key: one day.
const GRACE_MS: u64 = 24 * 3_600_000;

/// The secret with which a receiver verifies signatures.
pub struct UrlSecret {
    /// `whsec_…`
    pub secret: Zeroizing<String>,
}

/// A tenant's key was rotated.
#[derive(Debug, Clone, Copy)]
pub struct Rotated {
    pub at: Timestamp,
    /// Until then messages also carry the signature of the previous secret.
    pub previous_until: Timestamp,
}

/// The key cannot be decrypted: it was sealed with another master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to open the webhook signing key, because it was sealed with another master key; rotate the webhook secrets"
)]
pub(super) struct Unopenable;

impl Webhooks {
    /// The secret of a URL. Reading it is audited.
    ///
    /// # Errors
    /// 409 `webhook_key_unreadable` if the key was sealed with another master key.
    pub async fn secret(&self, caller: &Caller, url: &str) -> Result<UrlSecret> {
        caller.require(Scope::WebhooksWrite)?;
        let url = check_url(url, self.client.reach())?;
        let now = self.clock.now();
        let tenant_id = caller.principal.tenant_id;
        let mut secrets = self.secrets(tenant_id, url.as_str(), now).await?;
        let present = secrets.drain(..).next().transpose();
        let secret = present.ok().flatten().ok_or_else(|| ServiceError::Conflict {
            code: "webhook_key_unreadable",
            detail: "the webhook signing key was sealed with another master key; rotate the webhook secrets".into(),
        })?;
        let subject = Subject { kind: "tenant", id: tenant_id.0 };
        let detail = json!({"host": url.host()});
        let audit = caller.audit("webhook_secret.read", subject, &detail, now);
        self.store.writer().commit(crate::store::writer::AppendAudit(audit)).await?;
        Ok(UrlSecret { secret: secret.to_text() })
    }

    /// Rotates the key from which all secrets of the tenant's URLs derive.
    pub async fn rotate(&self, caller: &Caller) -> Result<Rotated> {
        caller.require(Scope::WebhooksWrite)?;
        let now = self.clock.now();
        let tenant_id = caller.principal.tenant_id;
        let row = self.new_key(tenant_id, now)?;
        let previous_until = now.plus_ms(GRACE_MS);
        let subject = Subject { kind: "tenant", id: tenant_id.0 };
        let audit = caller.audit("webhook_secret.rotate", subject, &json!({}), now);
        self.store.tenant(tenant_id).rotate_webhook_key(row, previous_until, audit).await?;
        Ok(Rotated { at: now, previous_until })
    }

    /// The secrets of a URL, the current one first. Creates the tenant's first key if it has none.
    pub(super) async fn secrets(
        &self,
        tenant_id: TenantId,
        url: &str,
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<SigningSecret, Unopenable>>> {
        let tenant = self.store.tenant(tenant_id);
        let mut rows = tenant.webhook_keys(now).await?;
        if rows.iter().all(|row| row.valid_until.is_some()) {
            // The first caller creates it, and all callers read that one.
            tenant.create_webhook_key(self.new_key(tenant_id, now)?).await?;
            rows = tenant.webhook_keys(now).await?;
        }
        let secret = |row: webhook_key::Model| {
            let root =
                self.secret_box.open(tenant_id, FIELD, &row.sealed).map_err(|_| Unopenable)?;
            Ok(SigningSecret::derive(&root, url))
        };
        Ok(rows.into_iter().map(secret).collect())
    }

    fn new_key(&self, tenant_id: TenantId, now: Timestamp) -> Result<webhook_key::Model> {
        let mut root = Zeroizing::new([0; ROOT_BYTES]);
        SystemRandom::new().fill(&mut *root).map_err(|_| NoRandomness)?;
        Ok(webhook_key::Model {
            id: WebhookKeyId::new(),
            tenant_id,
            sealed: self.secret_box.seal(tenant_id, FIELD, &*root)?,
            created_at: now,
            valid_until: None,
        })
    }
}
