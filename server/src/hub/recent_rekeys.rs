//! New secrets of agent keys, kept for the sessions that open while their key is regenerated.
//!
//! The database has only the hash of a secret, so such a session could not receive it later.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Rekey;
use crate::domain::ids::AgentKeyId;

/// How long a new secret is kept. A session opens in less.
const REKEY_KEPT: Duration = Duration::from_secs(60);

/// The latest new secret of each key.
#[derive(Default)]
pub(super) struct RecentRekeys(Mutex<HashMap<AgentKeyId, (Instant, Rekey)>>);

impl RecentRekeys {
    pub(super) fn add(&self, key_id: AgentKeyId, rekey: Rekey) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.insert(key_id, (Instant::now(), rekey));
    }

    pub(super) fn remove(&self, key_id: AgentKeyId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_id);
    }

    pub(super) fn get(&self, key_id: AgentKeyId) -> Option<Rekey> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, rekey) = recent.get(&key_id)?;
        (at.elapsed() < REKEY_KEPT).then(|| rekey.clone())
    }

    pub(super) fn forget_old(&self) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, (at, _)| at.elapsed() < REKEY_KEPT);
    }
}

impl fmt::Debug for RecentRekeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecentRekeys")
    }
}
