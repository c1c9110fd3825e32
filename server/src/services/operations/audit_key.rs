//! Loads the key that signs audit logs when the server starts, or creates it at the first start.
//!
//! It is stored in the database, sealed under the master key: whoever has only the database can't
//! sign a changed log.

use muster_protocol::identity::{AgentKeyPair, InvalidAgentKey};
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::domain::secret_box::{SecretBox, Unsealable};
use crate::store::{Store, StoreError};

/// The setting with the sealed key, and the field it is sealed for.
pub(super) const SETTING: &str = "audit_key";
/// The key belongs to no tenant.
const NO_TENANT: TenantId = TenantId(Uuid::nil());

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
    let pkcs8 = match store.system().setting(SETTING).await? {
        Some(sealed) => {
            secret_box.open(NO_TENANT, SETTING, &sealed).map_err(AuditKeyError::Changed)?
        }
        None => {
            let pkcs8 = AgentKeyPair::generate()?;
            let sealed =
                secret_box.seal(NO_TENANT, SETTING, &pkcs8).map_err(AuditKeyError::Sealing)?;
            store.system().create_setting(SETTING, sealed).await?;
            pkcs8
        }
    };
    store.set_audit_key(AgentKeyPair::read(&pkcs8)?);
    Ok(())
}
