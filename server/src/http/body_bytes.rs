//! The bytes of bodies that callers of the API send: how many are held at once.

use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use muster_protocol::limits::MAX_FRAME_BYTES;
use uuid::Uuid;

use super::problem::Problem;
use crate::domain::access::principal::Principal;
use crate::domain::ids::TenantId;
use crate::services::byte_shares::{ByteLimits, ByteOwner, ByteShares, HeldBytes};
use crate::services::freed_memory::FreedMemory;

/// Bytes of all bodies that one API key sends.
const MAX_BODY_BYTES_PER_KEY: usize = 8 * 1024 * 1024;
/// Bytes of all bodies that the API keys of one tenant send.
const MAX_BODY_BYTES_PER_TENANT: usize = 16 * 1024 * 1024;
/// Bytes of all bodies.
const MAX_BODY_BYTES_IN_ALL: usize = 32 * 1024 * 1024;
/// Bodies up to this size are limited by the number of connections alone.
const UNCOUNTED_BODY_BYTES: usize = 4 * 1024;
/// How long a body waits for free bytes before it is refused.
const BODY_WAIT: Duration = Duration::from_secs(2);

/// The shares of the callers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyBytes(ByteShares);

/// Bytes of a body that are held until this is dropped.
#[derive(Debug)]
pub(super) struct BodyPermit(#[expect(dead_code, reason = "kept for its drop")] Option<HeldBytes>);

/// Marks a request whose body was counted already.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsCounted;

impl BodyBytes {
    /// Nothing is held yet. `freed`: counts the bytes of bodies that were processed.
    pub fn new(freed: FreedMemory) -> Self {
        let limits = ByteLimits {
            key: MAX_BODY_BYTES_PER_KEY,
            tenant: MAX_BODY_BYTES_PER_TENANT,
            all: MAX_BODY_BYTES_IN_ALL,
        };
        Self(ByteShares::new(limits, freed))
    }

    /// Waits until a caller may hold so many bytes of a body. `principal`: who sends it; strangers
    /// share one share.
    ///
    /// # Errors
    /// A problem if its key, its tenant or the server holds too many bytes.
    pub(super) async fn acquire(
        &self,
        principal: Option<&Principal>,
        bytes: usize,
    ) -> Result<BodyPermit, Problem> {
        if bytes <= UNCOUNTED_BODY_BYTES {
            return Ok(BodyPermit(None));
        }
        let stranger = ByteOwner { tenant_id: TenantId(Uuid::nil()), key_id: Uuid::nil() };
        let owner = principal.map_or(stranger, |principal| ByteOwner {
            tenant_id: principal.tenant_id,
            key_id: principal.id.0,
        });
        let held = tokio::time::timeout(BODY_WAIT, self.0.acquire(owner, bytes)).await;
        held.map(|held| BodyPermit(Some(held))).map_err(|_| Problem::too_many_body_bytes())
    }
}

/// How many bytes the body of a request may need that are not counted yet.
pub(super) fn uncounted_bytes(request: &Request) -> usize {
    let is_counted = request.extensions().get::<IsCounted>().is_some();
    if is_counted || request.body().is_end_stream() {
        return 0;
    }
    declared_bytes(request.headers()).unwrap_or(MAX_FRAME_BYTES).min(MAX_FRAME_BYTES)
}

/// The size of a body, if its head declares it.
pub(super) fn declared_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
