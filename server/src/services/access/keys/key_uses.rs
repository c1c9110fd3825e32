//! When secrets of API keys were last used: counted in memory, and stored every few seconds, so that a
//! request writes nothing.
//!
//! This module does not know whose secrets they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::access::credential::SecretHash;
use crate::domain::time::Timestamp;
use crate::store::queries::SecretUses;

/// Most secrets that are remembered between two writes; further ones are counted with their next use.
const MAX_REMEMBERED: usize = 16_384;

/// Uses that are not stored yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::services) struct KeyUses(Arc<Mutex<SecretUses>>);

impl KeyUses {
    /// Notes the use of a valid secret.
    pub(in crate::services) fn record(&self, hash: SecretHash, at: Timestamp) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = uses.len() >= MAX_REMEMBERED;
        match uses.get_mut(&hash.0) {
            Some(last) => *last = (*last).max(at),
            None if is_full => {}
            None => {
                uses.insert(hash.0, at);
            }
        }
    }

    /// When a secret was last used, if that is not stored yet.
    pub(in crate::services) fn last(&self, hash: &[u8]) -> Option<Timestamp> {
        let hash: [u8; 32] = hash.try_into().ok()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).copied()
    }

    /// Takes everything that is to be stored.
    pub(in crate::services) fn take(&self) -> SecretUses {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts back what could not be stored.
    pub(in crate::services) fn put_back(&self, uses: HashMap<[u8; 32], Timestamp>) {
        for (hash, at) in uses {
            self.record(SecretHash(hash), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_counts_until_it_is_taken() {
        let uses = KeyUses::default();
        let hash = SecretHash([1; 32]);
        uses.record(hash, Timestamp(2));
        uses.record(hash, Timestamp(1));
        assert_eq!(uses.last(&hash.0), Some(Timestamp(2)));
        let taken = uses.take();
        assert_eq!((taken.len(), uses.last(&hash.0)), (1, None));
        uses.record(hash, Timestamp(3));
        uses.put_back(taken);
        assert_eq!(uses.last(&hash.0), Some(Timestamp(3)), "an older use replaces no newer one");
        assert_eq!(uses.last(b"short"), None);
    }
}
