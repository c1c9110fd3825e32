//! When the disk or a quota is full, from one sample a day.
//!
//! The growth is the median of the growths between all pairs of days (Theil and Sen), so that one purge or one
//! unusual day changes little.

use std::fmt;

use serde::Serialize;

use super::usage::LargestWriter;

/// Days that a forecast needs: with fewer samples, or a shorter time between them, there is none.
pub const MIN_DAYS: u64 = 3;
/// Oldest sample that counts, in days before the newest one.
pub const MAX_DAYS: i64 = 30;
/// A forecast that is further away says only that it is.
pub const HORIZON_DAYS: u64 = 3_650;

/// What was stored at the end of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaySample {
    /// Days since 1970.
    pub day: i64,
    pub total_bytes: u64,
    /// What a quota counts.
    pub counted_bytes: u64,
}

/// What may become full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// `None` if the disk is not known.
    pub disk_free_bytes: Option<u64>,
    /// `None` without a quota.
    pub quota_limit_bytes: Option<u64>,
    pub counted_bytes: u64,
}

/// What is full first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FullFirst {
    Disk,
    Quota,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There are samples of this many days, and 3 are needed.
    TooLittleHistory { days: u64 },
    /// Nothing is added in the long run.
    NoGrowth,
    /// Neither disk nor quota is known.
    Unbounded { bytes_per_day: u64 },
    /// It takes longer than 10 years.
    BeyondHorizon { bytes_per_day: u64 },
    /// In this many days; 0 if it is full now.
    Full { what: FullFirst, days: u64, bytes_per_day: u64 },
}

/// A forecast, and who causes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    pub outcome: Outcome,
    pub largest_writer: Option<LargestWriter>,
}

/// Forecasts from samples of different days, in any order.
pub fn forecast(samples: &[DaySample], capacity: Capacity) -> Outcome {
    if let Some(limit) = capacity.quota_limit_bytes
        && capacity.counted_bytes >= limit
    {
        let bytes_per_day = growth(samples, |sample| sample.counted_bytes).unwrap_or(0);
        return Outcome::Full { what: FullFirst::Quota, days: 0, bytes_per_day };
    }
    let (Some(total), Some(counted)) = (
        growth(samples, |sample| sample.total_bytes),
        growth(samples, |sample| sample.counted_bytes),
    ) else {
        return Outcome::TooLittleHistory { days: recent(samples).len() as u64 };
    };
    let until = |free: u64, bytes_per_day: u64| free.checked_div(bytes_per_day);
    let disk = capacity.disk_free_bytes.and_then(|free| until(free, total));
    let quota = capacity
        .quota_limit_bytes
        .and_then(|limit| until(limit.saturating_sub(capacity.counted_bytes), counted));
    let is_bounded = capacity.disk_free_bytes.is_some() || capacity.quota_limit_bytes.is_some();
    let ends = [(quota, FullFirst::Quota, counted), (disk, FullFirst::Disk, total)];
    let first = ends
        .into_iter()
        .filter_map(|(days, what, bytes_per_day)| Some((days?, what, bytes_per_day)))
        .min_by_key(|(days, ..)| *days);
    match first {
        Some((days, _, bytes_per_day)) if days > HORIZON_DAYS => {
            Outcome::BeyondHorizon { bytes_per_day }
        }
        Some((days, what, bytes_per_day)) => Outcome::Full { what, days, bytes_per_day },
        None if total == 0 || is_bounded => Outcome::NoGrowth,
        None => Outcome::Unbounded { bytes_per_day: total },
    }
}

/// The newest sample of each recent day, in order.
fn recent(samples: &[DaySample]) -> Vec<DaySample> {
    let Some(newest) = samples.iter().map(|sample| sample.day).max() else { return Vec::new() };
    let mut recent: Vec<_> = samples
        .iter()
        .filter(|sample| newest.saturating_sub(sample.day) <= MAX_DAYS)
        .copied()
        .collect();
    recent.sort_by_key(|sample| sample.day);
    recent.dedup_by_key(|sample| sample.day);
    recent
}

/// Bytes that are added a day; 0 if it shrinks, `None` with too little history.
fn growth(samples: &[DaySample], bytes: impl Fn(&DaySample) -> u64) -> Option<u64> {
    let recent = recent(samples);
    let span = recent.last()?.day.saturating_sub(recent.first()?.day).unsigned_abs();
    if (recent.len() as u64) < MIN_DAYS || span + 1 < MIN_DAYS {
        return None;
    }
    let mut slopes = Vec::with_capacity(recent.len() * recent.len() / 2);
    for (at, first) in recent.iter().enumerate() {
        for second in &recent[at + 1..] {
            let added = i128::from(bytes(second)) - i128::from(bytes(first));
            slopes.push(added / i128::from(second.day - first.day));
        }
    }
    slopes.sort_unstable();
    let median = slopes.get(slopes.len() / 2).copied()?;
    Some(u64::try_from(median.max(0)).unwrap_or(u64::MAX))
}

impl Outcome {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLittleHistory { .. } => "too_little_history",
            Self::NoGrowth => "no_growth",
            Self::Unbounded { .. } => "unbounded",
            Self::BeyondHorizon { .. } => "beyond_horizon",
            Self::Full { .. } => "full",
        }
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::TooLittleHistory { days } => {
                write!(f, "no forecast yet: {days} of {MIN_DAYS} days of samples")
            }
            Outcome::NoGrowth => f.write_str("no growth"),
            Outcome::Unbounded { .. } => f.write_str("grows; neither disk nor quota is known"),
            Outcome::BeyondHorizon { .. } => f.write_str("not full within 10 years"),
            Outcome::Full { what, days, .. } => {
                let what = match what {
                    FullFirst::Disk => "disk",
                    FullFirst::Quota => "quota",
                };
                match days {
                    0 => write!(f, "{what} full now"),
                    1 => write!(f, "{what} full in 1 day"),
                    days => write!(f, "{what} full in {days} days"),
                }
            }
        }?;
        match &self.largest_writer {
            None => Ok(()),
            Some(LargestWriter { script, share_percent }) if script.is_empty() => {
                write!(f, "; ad-hoc commands write {share_percent} %")
            }
            Some(LargestWriter { script, share_percent }) => {
                // Hosts may have chosen the name.
                write!(f, "; `{}` writes {share_percent} %", script.escape_debug())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn sample(day: i64, bytes: u64) -> DaySample {
        DaySample { day, total_bytes: bytes, counted_bytes: bytes }
    }

    fn linear(days: i64, start: u64, step: u64) -> Vec<DaySample> {
        (0..days).map(|day| sample(20_000 + day, start + step * day.unsigned_abs())).collect()
    }

    fn disk(free: u64) -> Capacity {
        Capacity { disk_free_bytes: Some(free), ..Capacity::default() }
    }

    #[test]
    fn steady_growth_fills_the_disk_on_the_expected_day() {
        let found = forecast(&linear(10, 5 * GIB, GIB), disk(19 * GIB));
        assert_eq!(found, Outcome::Full { what: FullFirst::Disk, days: 19, bytes_per_day: GIB });
        let writer = LargestWriter { script: "scan".into(), share_percent: 61 };
        let forecast = Forecast { outcome: found, largest_writer: Some(writer) };
        assert_eq!(forecast.to_string(), "disk full in 19 days; `scan` writes 61 %");
    }

    #[test]
    fn quota_that_is_reached_before_the_disk_is_named() {
        let capacity = Capacity {
            disk_free_bytes: Some(100 * GIB),
            quota_limit_bytes: Some(20 * GIB),
            counted_bytes: 14 * GIB,
        };
        let found = forecast(&linear(10, 5 * GIB, GIB), capacity);
        assert_eq!(found, Outcome::Full { what: FullFirst::Quota, days: 6, bytes_per_day: GIB });
        let reached = Capacity { counted_bytes: 20 * GIB, ..capacity };
        let now = Outcome::Full { what: FullFirst::Quota, days: 0, bytes_per_day: 0 };
        assert_eq!(forecast(&[], reached), now, "without any history");
    }

    #[test]
    fn one_purge_does_not_hide_the_growth() {
        let mut samples = linear(20, 5 * GIB, GIB);
        for sample in samples.iter_mut().skip(15) {
            sample.total_bytes -= 8 * GIB;
        }
        assert!(matches!(forecast(&samples, disk(19 * GIB)), Outcome::Full { days: 19..=30, .. }));
    }

    proptest! {
        #[test]
        fn too_few_days_give_no_forecast_and_never_a_panic(
            days in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..3), free in any::<u64>()
        ) {
            let samples: Vec<_> = days.iter().map(|(day, bytes)| sample(*day, *bytes)).collect();
            let found = forecast(&samples, disk(free));
            prop_assert!(matches!(found, Outcome::TooLittleHistory { .. }), "{found:?}");
        }

        #[test]
        fn any_samples_give_an_answer_that_does_not_depend_on_their_order(
            mut days in proptest::collection::vec((any::<i16>(), any::<u64>()), 0..50),
            free in proptest::option::of(any::<u64>()), limit in proptest::option::of(any::<u64>()),
            counted in any::<u64>()
        ) {
            days.sort_unstable();
            days.dedup_by_key(|day| day.0);
            let capacity = Capacity { disk_free_bytes: free, quota_limit_bytes: limit, counted_bytes: counted };
            let mut samples: Vec<_> = days.iter().map(|(day, bytes)| sample((*day).into(), *bytes)).collect();
            let found = forecast(&samples, capacity);
            samples.reverse();
            prop_assert_eq!(found, forecast(&samples, capacity));
            if let Outcome::Full { days, .. } = found {
                prop_assert!(days <= HORIZON_DAYS);
            }
        }

        #[test]
        fn what_shrinks_or_stays_is_never_full(
            days in 3_i64..30, start in 1_u64 << 40..1 << 50, step in 0_u64..1 << 30, free in any::<u64>()
        ) {
            let samples: Vec<_> =
                (0..days).map(|day| sample(day, start - step * day.unsigned_abs())).collect();
            prop_assert_eq!(forecast(&samples, disk(free)), Outcome::NoGrowth);
        }

        #[test]
        fn linear_growth_is_found_exactly_and_more_space_lasts_longer(
            days in 3_i64..30, start in 0_u64..1 << 50, step in 1_u64..1 << 40, free in 0_u64..1 << 50, more in 0_u64..1 << 50
        ) {
            let samples = linear(days, start, step);
            let until = |free: u64| match forecast(&samples, disk(free)) {
                Outcome::Full { days, bytes_per_day, .. } => {
                    assert_eq!((days, bytes_per_day), (free / step, step));
                    days
                }
                Outcome::BeyondHorizon { bytes_per_day } => {
                    assert_eq!(bytes_per_day, step);
                    assert!(free / step > HORIZON_DAYS);
                    u64::MAX
                }
                other => panic!("{other:?}"),
            };
            prop_assert!(until(free) <= until(free + more));
        }
    }
}
