//! Delays between attempts: exponential, with full jitter.
//!
//! The only file that uses the `backoff` crate, so that it can be replaced in one place.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// An endless sequence of delays. Delay *n* is uniform between zero and a ceiling that doubles with
/// each attempt up to a maximum.
#[derive(Debug)]
pub struct Delays {
    inner: ExponentialBackoff,
}

impl Delays {
    /// `first_ceiling` bounds the first delay; `max_ceiling` bounds every delay.
    pub fn new(first_ceiling: Duration, max_ceiling: Duration) -> Self {
        // The crate draws from `interval ± factor × interval`; with a factor of 1 that is full
        // jitter over twice the interval, so each interval is half its ceiling.
        let mut inner = ExponentialBackoff {
            initial_interval: first_ceiling / 2,
            max_interval: max_ceiling / 2,
            multiplier: 2.0,
            randomization_factor: 1.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        inner.reset();
        Self { inner }
    }

    /// For connections: at most 1 s first, at most 60 s later.
    pub fn for_reconnect() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// For a crashing process: at most 2 s first, at most 120 s later.
    pub fn for_restart() -> Self {
        Self::new(Duration::from_secs(2), Duration::from_secs(120))
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.inner.next_backoff().unwrap_or(self.inner.max_interval)
    }

    /// Resets to the first ceiling after a success.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_delay_exceeds_its_ceiling(attempts in 1usize..40) {
            let mut delays = Delays::for_reconnect();
            let mut ceiling = Duration::from_secs(1);
            for _ in 0..attempts {
                let delay = delays.next_delay();
                prop_assert!(delay <= ceiling, "{delay:?} over {ceiling:?}");
                ceiling = (ceiling * 2).min(Duration::from_secs(60));
            }
        }
    }

    #[test]
    fn jitter_is_full_and_not_a_constant() {
        let mut delays = Delays::new(Duration::from_secs(60), Duration::from_secs(60));
        let drawn: Vec<_> = (0..200).map(|_| delays.next_delay()).collect();
        assert!(drawn.iter().any(|delay| *delay < Duration::from_secs(15)));
        assert!(drawn.iter().any(|delay| *delay > Duration::from_secs(45)));
    }
}
