//! Whether a run of a schedule took an unusual time, compared with the runs before. Pure.

/// Successful runs that a run is compared with.
pub const COMPARED_RUNS: u64 = 20;
/// With fewer runs there is no usual time.
pub const MIN_COMPARED_RUNS: usize = 5;
/// How many times longer or shorter than usual is unusual.
pub const UNUSUAL_FACTOR: u64 = 3;
/// A smaller difference is never unusual.
pub const MIN_DIFFERENCE_MS: u64 = 10_000;

/// The usual time, if this run took an unusual one: the median of the runs before.
pub fn unusual_duration(duration_ms: u64, before_ms: &[u64]) -> Option<u64> {
    if before_ms.len() < MIN_COMPARED_RUNS {
        return None;
    }
    let mut sorted = before_ms.to_vec();
    sorted.sort_unstable();
    let usual_ms = sorted[sorted.len() / 2];
    let (shorter, longer) = (duration_ms.min(usual_ms), duration_ms.max(usual_ms));
    let is_unusual =
        longer - shorter >= MIN_DIFFERENCE_MS && longer > shorter.saturating_mul(UNUSUAL_FACTOR);
    is_unusual.then_some(usual_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn much_longer_and_much_shorter_runs_are_unusual() {
        let before = [60_000, 61_000, 59_000, 600_000, 60_500];
        for (duration_ms, expected) in [
            (60_000, None),
            (181_499, None),
            (181_501, Some(60_500)),
            (20_100, Some(60_500)),
            (21_000, None),
        ] {
            assert_eq!(unusual_duration(duration_ms, &before), expected, "{duration_ms}");
        }
    }

    #[test]
    fn few_runs_and_short_runs_have_no_usual_time() {
        assert_eq!(unusual_duration(1_000_000, &[1_000; 4]), None);
        assert_eq!(unusual_duration(9_000, &[1_000; 5]), None, "seconds are noise");
    }

    proptest! {
        #[test]
        fn run_like_the_ones_before_is_never_unusual(
            usual_ms in 1..10_000_000_u64,
            count in 0..30_usize,
        ) {
            prop_assert_eq!(unusual_duration(usual_ms, &vec![usual_ms; count]), None);
            prop_assert_eq!(unusual_duration(usual_ms * 3, &vec![usual_ms; count]), None);
        }
    }
}
