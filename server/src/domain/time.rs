//! Instants of the server's clock, and the clock as a value that is passed in.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the Unix epoch, UTC. RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The end of the year 9999. The expiry of a held execution, which counts only after its
    /// release.
    pub const NEVER: Self = Self(253_402_300_799_999);

    /// This instant plus `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add_unsigned(ms))
    }

    /// This instant minus `ms` milliseconds.
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub_unsigned(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 if it is not earlier.
    pub fn ms_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    /// Reads an RFC 3339 instant with any offset.
    pub fn parse(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|instant| Self(instant.timestamp_millis()))
    }
}

impl Timestamp {
    /// The instant in the form of HTTP headers, to the second.
    pub fn http_date(self) -> String {
        let instant = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        instant.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&instant.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom("expected an RFC 3339 instant such as 2026-01-31T12:00:00Z")
        })
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(
                utoipa::openapi::KnownFormat::DateTime,
            )))
            .description(Some("RFC 3339, UTC, milliseconds"))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {
    fn name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
}

/// The source of the server's time. Only decisions of the server depend on it: clocks of agents
/// decide nothing.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self(Arc::new(|| Timestamp(Utc::now().timestamp_millis())))
    }

    /// A clock that the caller provides.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Measures time since instants of the wall clock, also if that clock was set in between.
#[derive(Debug, Clone)]
pub struct ElapsedTime {
    clock: Clock,
    started_at: Timestamp,
    started: Instant,
}

impl ElapsedTime {
    /// Starts to measure with a clock.
    pub fn new(clock: Clock) -> Self {
        Self { started_at: clock.now(), started: Instant::now(), clock }
    }

    /// Milliseconds since an instant that the clock showed while this process ran. An instant of an earlier
    /// process is measured by the wall clock alone.
    pub fn ms_since(&self, earlier: Timestamp) -> u64 {
        let run_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        elapsed_ms(earlier, self.clock.now(), self.started_at.plus_ms(run_ms))
    }
}

/// Before a step of the clock, `unset_now` continues the time that `earlier` is of; after it, `now` does. The
/// other one is off by the step: either before `earlier`, or later than it should be.
fn elapsed_ms(earlier: Timestamp, now: Timestamp, unset_now: Timestamp) -> u64 {
    [now, unset_now]
        .into_iter()
        .filter(|now| *now >= earlier)
        .map(|now| now.ms_since(earlier))
        .min()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    proptest! {
        /// A step of more than the time that passed can always be told apart.
        #[test]
        fn elapsed_time_is_measured_across_one_step_of_the_clock(
            started in 0..1_000_000i64,
            until_creation in 0..DAY_MS,
            wait in 0..DAY_MS,
            step in prop_oneof![-400 * DAY_MS..-3 * DAY_MS, 3 * DAY_MS..400 * DAY_MS],
            is_before_creation: bool,
        ) {
            let started = started + 500 * DAY_MS;
            let unset_now = started + until_creation + wait;
            let now = unset_now + step;
            let created = started + until_creation + if is_before_creation { step } else { 0 };
            let elapsed = elapsed_ms(Timestamp(created), Timestamp(now), Timestamp(unset_now));
            prop_assert_eq!(elapsed, wait as u64);
        }

        #[test]
        fn elapsed_time_of_a_clock_that_was_not_set_is_the_difference(
            created in 0..DAY_MS, wait in 0..400 * DAY_MS,
        ) {
            let now = Timestamp(created + wait);
            prop_assert_eq!(elapsed_ms(Timestamp(created), now, now), wait as u64);
        }
    }
}
