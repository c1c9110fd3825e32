//! The quota of a tenant: how many bytes of history and output it may store.
//!
//! Above the quota new work is refused before it is created. Work that was accepted runs to its end, and its
//! output is stored, so a tenant may go over its quota by what it had under way.

use serde::Serialize;

/// From how many percent of the quota on its owner is warned.
pub const WARNING_PERCENT: u64 = 80;

/// How much of its quota a tenant uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaState {
    /// Less than 80 percent, or there is no quota.
    Free,
    /// 80 percent or more.
    NearlyFull,
    /// All of it, or more. New work is refused.
    Reached,
}

/// The quota of a tenant and what counts against it, as last measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorageQuota {
    /// `None`: there is no quota.
    pub limit_bytes: Option<u64>,
    pub counted_bytes: u64,
}

/// The tenant stores as much as its quota allows, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "history and output of this tenant take {counted_bytes} bytes, and its quota is {limit_bytes}: new executions are refused until old history is deleted; an owner deletes it with `muster storage purge`, or the operator of the server gives a larger quota"
)]
pub struct StorageQuotaReached {
    pub limit_bytes: u64,
    pub counted_bytes: u64,
}

impl StorageQuota {
    /// How much of it is used.
    pub fn state(self) -> QuotaState {
        let Some(limit) = self.limit_bytes else { return QuotaState::Free };
        let (counted, limit) = (u128::from(self.counted_bytes), u128::from(limit));
        if counted >= limit {
            QuotaState::Reached
        } else if counted * 100 >= limit * u128::from(WARNING_PERCENT) {
            QuotaState::NearlyFull
        } else {
            QuotaState::Free
        }
    }

    /// Checks that new work may be stored.
    ///
    /// # Errors
    /// [`StorageQuotaReached`].
    pub fn check(self) -> Result<(), StorageQuotaReached> {
        match (self.state(), self.limit_bytes) {
            (QuotaState::Reached, Some(limit_bytes)) => {
                Err(StorageQuotaReached { limit_bytes, counted_bytes: self.counted_bytes })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn work_is_refused_from_the_limit_on_and_never_without_one(
            limit in proptest::option::of(any::<u64>()), counted in any::<u64>()
        ) {
            let quota = StorageQuota { limit_bytes: limit, counted_bytes: counted };
            let is_over = limit.is_some_and(|limit| counted >= limit);
            prop_assert_eq!(quota.check().is_err(), is_over);
            prop_assert_eq!(quota.state() == QuotaState::Reached, is_over);
        }

        #[test]
        fn more_bytes_never_make_a_quota_freer(limit in any::<u64>(), one in any::<u64>(), two in any::<u64>()) {
            let state = |counted_bytes| StorageQuota { limit_bytes: Some(limit), counted_bytes }.state() as u8;
            prop_assert!(state(one.min(two)) <= state(one.max(two)));
        }
    }

    #[test]
    fn warning_comes_at_80_percent() {
        let state =
            |counted_bytes| StorageQuota { limit_bytes: Some(1_000), counted_bytes }.state();
        assert_eq!(
            [state(799), state(800), state(999), state(1_000)],
            [QuotaState::Free, QuotaState::NearlyFull, QuotaState::NearlyFull, QuotaState::Reached,]
        );
    }
}
