//! Replaces the key that signs audit logs. Each log gets an entry about it, which the previous key has signed,
//! and with it a last link that the new key signs.
//!
//! Both keys are stored until every log has its entry, so an interrupted rotation loses nothing, and running it
//! again finishes it.

use muster_protocol::audit::AuditKeyChange;
use muster_protocol::identity::{AgentKeyPair, Fingerprint};
use serde_json::json;
use uuid::Uuid;

use super::audit_key::{self, AuditKeyError, NO_TENANT, PREVIOUS, SETTING};
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::Store;
use crate::store::entities::access::audit_entry;

/// The last tenant whose log has the entry.
const PROGRESS: &str = "audit_key_progress";
/// Logs of one transaction.
const SLICE: u64 = 100;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditKeyRotation {
    /// Logs that got an entry about it.
    pub logs: u64,
    pub previous: Fingerprint,
    pub present: Fingerprint,
}

/// Replaces the key, or finishes a rotation that was interrupted.
///
/// # Errors
/// [`AuditKeyError`]; run it again to finish.
pub(super) async fn rotate(
    store: &Store,
    secret_box: &SecretBox,
    clock: &Clock,
) -> Result<AuditKeyRotation, AuditKeyError> {
    let system = store.system();
    if audit_key::read(store, secret_box, PREVIOUS).await?.is_none() {
        let pkcs8 = AgentKeyPair::generate()?;
        let sealed = secret_box.seal(NO_TENANT, SETTING, &pkcs8).map_err(AuditKeyError::Sealing)?;
        let present = system.setting(SETTING).await?.unwrap_or_default();
        let present =
            secret_box.open(NO_TENANT, SETTING, &present).map_err(AuditKeyError::Changed)?;
        let previous =
            secret_box.seal(NO_TENANT, PREVIOUS, &present).map_err(AuditKeyError::Sealing)?;
        system.replace_settings(vec![(SETTING, Some(sealed)), (PREVIOUS, Some(previous))]).await?;
    }
    audit_key::load(store, secret_box).await?;
    let previous = audit_key::read(store, secret_box, PREVIOUS).await?;
    let (Some(previous), Some(present)) = (previous, store.audit_key()) else {
        return Err(AuditKeyError::Key(muster_protocol::identity::InvalidAgentKey));
    };
    let change = AuditKeyChange::sign(&previous, present.public_key());
    let mut logs = 0;
    let progress = system.setting(PROGRESS).await?;
    let mut after = progress.and_then(|id| Uuid::from_slice(&id).ok()).map(TenantId);
    loop {
        let tenants = system.audited_tenants(after, SLICE).await?;
        let Some(last) = tenants.last().copied() else { break };
        let entries = tenants.iter().map(|id| entry(*id, &change, clock)).collect();
        let done = (PROGRESS, last.0.as_bytes().to_vec());
        logs += system.change_audit_key(entries, done).await?;
        after = Some(last);
    }
    system.replace_settings(vec![(PREVIOUS, None), (PROGRESS, None)]).await?;
    store.forget_previous_audit_key();
    let (previous, present) = (change.previous_public_key, change.public_key);
    Ok(AuditKeyRotation { logs, previous: previous.fingerprint(), present: present.fingerprint() })
}

fn entry(tenant_id: TenantId, change: &AuditKeyChange, clock: &Clock) -> audit_entry::Model {
    let AuditKeyChange { previous_public_key, public_key, signature } = change;
    let detail = json!({
        "previous_public_key": previous_public_key.to_string(),
        "public_key": public_key.to_string(),
        "signature": signature,
    });
    let action = AuditAction {
        tenant_id,
        action: "audit.change_key",
        subject: Subject { kind: "audit", id: tenant_id.0 },
        detail: &detail,
        at: clock.now(),
    };
    let actor_id = Some(PrincipalId::OPERATOR.0);
    audit_entry::Model { actor_kind: ActorKind::Operator, actor_id, ..action.by_system() }
}
