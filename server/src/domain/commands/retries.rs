//! Which executions of a job run again by themselves, and when. Pure.

use serde::{Deserialize, Serialize};

use super::command_state::CommandState;

/// Most retries of one execution.
pub const MAX_RETRIES: u32 = 10;
/// Longest pause before a retry: 1 h.
pub const MAX_BACKOFF_MS: u64 = 3_600_000;
/// Pause before the first retry, unless the request says another.
const DEFAULT_BACKOFF_MS: u64 = 10_000;

/// How a job runs an execution again that failed or reached its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RetrySpec)]
pub struct RetrySpec {
    /// Retries of each execution: 1 to 10.
    pub count: u32,
    /// Pause before the first retry: at most 1 h, default 10 s. It doubles with each further retry, up to
    /// 1 h.
    #[serde(default = "default_backoff_ms")]
    pub backoff_ms: u64,
}

const fn default_backoff_ms() -> u64 {
    DEFAULT_BACKOFF_MS
}

/// The retries of a stored job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRetries {
    pub count: u32,
    pub backoff_ms: u64,
    /// How long each attempt waits for its agent.
    pub expires_in_ms: u64,
}

impl RetrySpec {
    /// The pause after an attempt, counted from 1; `None` if it was the last one.
    pub fn pause_ms(self, attempt: u32) -> Option<u64> {
        if attempt > self.count.min(MAX_RETRIES) {
            return None;
        }
        let factor = 1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
        Some(self.backoff_ms.saturating_mul(factor).min(MAX_BACKOFF_MS))
    }
}

impl StoredRetries {
    /// What the request asked for.
    pub fn spec(self) -> RetrySpec {
        RetrySpec { count: self.count, backoff_ms: self.backoff_ms }
    }
}

/// True for ends that a retry can mend: the script ran, and is known to have ended badly.
///
/// A `lost` execution may have run or still run, a host that rejected one rejects it again, and an
/// expired one reached the instant until which its requester wanted it.
pub const fn is_retried(state: CommandState) -> bool {
    matches!(state, CommandState::Failed | CommandState::TimedOut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn pause_doubles_up_to_an_hour() {
        let spec = RetrySpec { count: 10, backoff_ms: 30_000 };
        let pauses: Vec<_> = (1..=9).filter_map(|attempt| spec.pause_ms(attempt)).collect();
        let seconds: Vec<_> = pauses.iter().map(|ms| ms / 1_000).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    }

    #[test]
    fn only_known_bad_ends_are_retried() {
        let retried: Vec<_> = CommandState::iter().filter(|state| is_retried(*state)).collect();
        assert_eq!(retried, [CommandState::Failed, CommandState::TimedOut]);
    }

    proptest! {
        #[test]
        fn attempts_are_bounded_and_pauses_never_shrink(
            count in any::<u32>(), backoff_ms in any::<u64>(), attempt in 1..u32::MAX,
        ) {
            let spec = RetrySpec { count, backoff_ms };
            let pause = spec.pause_ms(attempt);
            prop_assert_eq!(pause.is_some(), attempt <= count.min(MAX_RETRIES));
            prop_assert!(pause.unwrap_or(0) <= MAX_BACKOFF_MS);
            if let (Some(pause), Some(next)) = (pause, spec.pause_ms(attempt + 1)) {
                prop_assert!(next >= pause);
            }
        }
    }
}
