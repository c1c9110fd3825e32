//! Idempotency keys: a repeated request returns what the first one created.

use ring::digest::{Context, SHA256};

use crate::domain::access::principal::Principal;
use crate::domain::ids::CommandId;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::writer::Idempotency;

/// Longest idempotency key, in characters.
pub const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;

/// True for a key that can be stored: printable ASCII of valid length.
pub(super) fn is_idempotency_key(key: &str) -> bool {
    (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// A hash over all parts of a request.
pub(super) fn request_hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The id of the command or job that the same request created before.
///
/// # Errors
/// [`key_reused`] if another request used the key.
pub(super) async fn find_earlier(
    store: &Store,
    principal: &Principal,
    idempotency: &Idempotency,
) -> Result<Option<CommandId>> {
    let tenant = store.tenant(principal.tenant_id);
    match tenant.idempotency_record(principal.id, &idempotency.key).await? {
        None => Ok(None),
        Some(record) if record.request_hash == idempotency.request_hash => {
            Ok(Some(record.command_id))
        }
        Some(_) => Err(key_reused()),
    }
}

/// The idempotency key belongs to another request.
pub(super) fn key_reused() -> ServiceError {
    ServiceError::Invalid {
        code: "idempotency_key_reused",
        detail: "this Idempotency-Key belongs to another request; use a new one".into(),
    }
}
