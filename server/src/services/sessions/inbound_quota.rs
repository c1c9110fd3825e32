//! Admits the messages of one session before they are parsed: a fair share of bytes, a rate of frames,
//! and a rate of large texts, which take long to parse.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::AgentMessage;
use super::byte_limiter::SessionBytes;

/// Frames of one session per second, and in one burst.
const FRAMES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5_000).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
/// Texts up to this size are not counted as large.
const LARGE_TEXT_BYTES: usize = 16 * 1024;
/// Large texts of one session per second, and in one burst, in KiB. An inventory of the largest
/// size and a manifest fit into the burst.
const TEXT_KIB_PER_SECOND: NonZeroU32 = NonZeroU32::new(128).unwrap();
const TEXT_BURST_KIB: NonZeroU32 = NonZeroU32::new(4 * 1024).unwrap();

/// The quota of one session.
#[derive(Debug)]
pub(super) struct InboundQuota {
    frames: DefaultDirectRateLimiter,
    text_kib: DefaultDirectRateLimiter,
    /// Absent if the transport has counted the bytes already.
    bytes: Option<SessionBytes>,
}

/// A message that waits for its admission. The agent is not read meanwhile, so that its own
/// connection fills up.
pub(super) type PendingMessage = Pin<Box<dyn Future<Output = AgentMessage> + Send>>;

/// The message once it is admitted; never without one.
pub(super) async fn admitted(admission: &mut Option<PendingMessage>) -> AgentMessage {
    match admission {
        Some(admission) => admission.await,
        None => std::future::pending().await,
    }
}

impl InboundQuota {
    pub(super) fn new(bytes: Option<SessionBytes>) -> Self {
        let quota = Quota::per_second(FRAMES_PER_SECOND).allow_burst(BURST);
        Self { frames: RateLimiter::direct(quota), text_kib: large_texts(), bytes }
    }

    /// Admits a message at once, or returns its admission.
    pub(super) fn admit(
        self: &Arc<Self>,
        message: AgentMessage,
    ) -> Result<AgentMessage, PendingMessage> {
        let (size, is_text) = match &message {
            AgentMessage::Text(bytes) => (bytes.len(), true),
            AgentMessage::Binary(bytes) => (bytes.len(), false),
            AgentMessage::KeepAlive | AgentMessage::Closed | AgentMessage::Report(..) => {
                return Ok(message);
            }
        };
        let is_small = size <= SessionBytes::UNCOUNTED_BYTES;
        if is_small && self.frames.check().is_ok() {
            return Ok(message);
        }
        let quota = Arc::clone(self);
        Err(Box::pin(async move {
            wait_for(&quota.frames, NonZeroU32::MIN).await;
            if is_text && size > LARGE_TEXT_BYTES {
                let kib = u32::try_from(size.div_ceil(1024)).ok().and_then(NonZeroU32::new);
                let kib = kib.unwrap_or(NonZeroU32::MIN);
                wait_for(&quota.text_kib, kib).await;
                if let Some(bytes) = &quota.bytes {
                    wait_for(bytes.large_texts_of_key(), kib).await;
                }
            }
            let Some(bytes) = &quota.bytes else { return message };
            let permit = bytes.acquire(size).await;
            match message {
                AgentMessage::Text(text) => AgentMessage::Text(permit.attach(text)),
                AgentMessage::Binary(bytes) => AgentMessage::Binary(permit.attach(bytes)),
                other => other,
            }
        }))
    }
}

fn large_texts() -> DefaultDirectRateLimiter {
    RateLimiter::direct(Quota::per_second(TEXT_KIB_PER_SECOND).allow_burst(TEXT_BURST_KIB))
}

/// Waits until the limiter permits `count` units. More than its burst counts as its burst.
async fn wait_for(limiter: &DefaultDirectRateLimiter, count: NonZeroU32) {
    while let Ok(Err(early)) = limiter.check_n(count) {
        tokio::time::sleep(early.wait_time_from(DefaultClock::default().now())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::ids::{AgentKeyId, TenantId};
    use crate::services::freed_memory::FreedMemory;
    use crate::services::sessions::byte_limiter::ByteLimiter;

    fn text(bytes: usize) -> AgentMessage {
        AgentMessage::Text(Bytes::from(vec![b' '; bytes]))
    }

    /// Messages of this size that are admitted without a wait, up to 1,000.
    fn admitted(quota: &Arc<InboundQuota>, bytes: usize) -> usize {
        let is_admitted = |_: &usize| match quota.admit(text(bytes)) {
            Ok(_) => true,
            // Without the runtime's budget, which ends after some permits.
            Err(admission) => tokio::task::unconstrained(admission).now_or_never().is_some(),
        };
        (0..1_000).take_while(is_admitted).count()
    }

    fn session(limiter: &ByteLimiter, key: AgentKeyId) -> Arc<InboundQuota> {
        Arc::new(InboundQuota::new(Some(limiter.session(TenantId::new(), key))))
    }

    #[tokio::test]
    async fn large_texts_of_a_session_are_paced_and_small_ones_pass() {
        let quota = session(&ByteLimiter::new(FreedMemory::default()), AgentKeyId::new());
        let manifest = 512 * 1024;
        let first = admitted(&quota, manifest);
        assert_eq!(first, TEXT_BURST_KIB.get() as usize * 1024 / manifest);
        assert_eq!(admitted(&quota, 1_000), 1_000);
        let waiting = quota.admit(text(manifest)).expect_err("not at once");
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("later");
    }

    #[tokio::test]
    async fn large_texts_of_a_key_are_paced_over_all_its_sessions() {
        let (limiter, key) = (ByteLimiter::new(FreedMemory::default()), AgentKeyId::new());
        let sessions: Vec<_> = (0..30).map(|_| session(&limiter, key)).collect();
        let count: usize = sessions.iter().map(|quota| admitted(quota, 512 * 1024)).sum();
        assert!((60..=80).contains(&count), "{count}");
        assert_eq!(admitted(&session(&limiter, AgentKeyId::new()), 512 * 1024), 8);
    }
}
