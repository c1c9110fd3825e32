//! Loads the key that signs audit logs when the server starts, or creates it at the first start.
//!
//! It is stored in the database, sealed under the master key: an attacker who has only the database
//! can't sign a changed log.

use muster_protocol::identity::{AgentKeyPair, InvalidAgentKey};
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::domain::secret_box::{SecretBox, Unsealable};
use crate::store::{Store, StoreError};

/// The setting with the sealed key, and the field it is sealed for.
pub(super) const SETTING: &str = "audit_key";
/// The setting with the sealed key that is being replaced. It exists until every log has an entry about the change.
pub(super) const PREVIOUS: &str = "audit_key_previous";
/// The key belongs to no tenant.
pub(super) const NO_TENANT: TenantId = TenantId(Uuid::nil());

/// The key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeyError {
    #[error("the stored key of audit logs was changed")]
    Changed(#[source] Unsealable),
    #[error("failed to seal the key of audit logs")]
    Sealing(#[source] Unsealable),
    #[error("failed to create or read the key of audit logs")]
    Key(#[from] InvalidAgentKey),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Loads the key into the store, which can write audit entries from then on.
///
/// # Errors
/// [`AuditKeyError`].
pub async fn load(store: &Store, secret_box: &SecretBox) -> Result<(), AuditKeyError> {
    let key = match read(store, secret_box, SETTING).await? {
        Some(key) => key,
        None => {
            let pkcs8 = AgentKeyPair::generate()?;
            let sealed =
                secret_box.seal(NO_TENANT, SETTING, &pkcs8).map_err(AuditKeyError::Sealing)?;
            store.system().create_setting(SETTING, sealed).await?;
            AgentKeyPair::read(&pkcs8)?
        }
    };
    let previous = read(store, secret_box, PREVIOUS).await?;
    if previous.is_some() {
        tracing::warn!(
            "the rotation of the key of audit logs was interrupted; run `muster-server rotate-audit-key` again"
        );
    }
    store.set_audit_key(key, previous.map(|previous| previous.public_key()));
    Ok(())
}

/// A stored key.
pub(super) async fn read(
    store: &Store,
    secret_box: &SecretBox,
    name: &'static str,
) -> Result<Option<AgentKeyPair>, AuditKeyError> {
    let Some(sealed) = store.system().setting(name).await? else { return Ok(None) };
    let pkcs8 = secret_box.open(NO_TENANT, name, &sealed).map_err(AuditKeyError::Changed)?;
    Ok(Some(AgentKeyPair::read(&pkcs8)?))
}
