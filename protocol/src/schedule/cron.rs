//! A cron entry in a time zone, and the instants that it names.
//!
//! croner reads the five fields and finds local times. It knows no zone here: which instants a local
//! time is, and what a change of the clocks does to it, is decided in this file.

use std::str::FromStr as _;

use chrono::{DateTime, Datelike as _, Duration, MappedLocalTime, NaiveDateTime, Offset as _};
use chrono::{TimeZone as _, Timelike as _, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::cron_problem::wrong_value;

/// Longest cron entry.
pub const MAX_CRON_CHARS: usize = 128;
/// Last year in which an entry fires.
const LAST_YEAR: i32 = 2199;
/// Further than any change of a zone's offset lasts: 26 h.
const ZONE_STEP_HOURS: i64 = 26;

/// A cron entry with its zone.
#[derive(Debug, Clone)]
pub struct CronEntry {
    cron: Cron,
    zone: Tz,
    is_fixed_time: bool,
}

/// What a change of the clocks did to a due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChange {
    /// The local time of the entry does not exist on this day; this is the first instant after the
    /// gap.
    AfterGap,
    /// The local time occurs twice on this day.
    RepeatedTime,
}

/// Why a text is no cron entry: the end of a sentence about it, or about its zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("must be at most 128 characters")]
    TooLong,
    #[error("is invalid: {0}")]
    Value(String),
    #[error(
        "must be five fields (minute, hour, day of the month, month, day of the week), or one of @hourly, @daily, @weekly, @monthly and @yearly"
    )]
    Fields,
    #[error("names a day that never comes")]
    NeverDue,
    #[error("must be the name of a time zone such as Europe/Berlin or UTC")]
    Zone,
}

impl CronEntry {
    /// Reads the fields and the name of the zone.
    ///
    /// # Errors
    /// [`CronError`]
    pub fn parse(text: &str, zone: &str) -> Result<Self, CronError> {
        if text.chars().count() > MAX_CRON_CHARS {
            return Err(CronError::TooLong);
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let Ok(cron) = parser.build().parse(text) else {
            return Err(wrong_value(text).map_or(CronError::Fields, CronError::Value));
        };
        let zone = Tz::from_str(zone).map_err(|_| CronError::Zone)?;
        // As in cron itself, a star in the fields of the time of day makes the entry follow the
        // clock. `croner::JobType` also counts lists and ranges as such, and would not run
        // `0 2,14 * * *` at all on a day without 02:00.
        let is_fixed_time = !fields(&cron).iter().take(2).any(|field| field.contains('*'));
        let entry = Self { cron, zone, is_fixed_time };
        if entry.cron.find_next_occurrence(&NaiveDateTime::default(), true).is_err() {
            return Err(CronError::NeverDue);
        }
        Ok(entry)
    }

    /// The first due time after an instant. Instants are milliseconds since the Unix epoch.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        let after = utc(after_ms)?;
        let found = match self.is_fixed_time {
            true => self.next_fixed_time(after),
            false => self.next_by_the_clock(after),
        };
        found.map(|found| found.and_utc().timestamp_millis())
    }

    /// The local time of an instant, with its offset.
    pub fn local(&self, at_ms: i64) -> Option<DateTime<chrono::FixedOffset>> {
        Some(self.zone.from_utc_datetime(&utc(at_ms)?).fixed_offset())
    }

    /// What a change of the clocks did to a due time of this entry.
    pub fn clock_change(&self, due_at_ms: i64) -> Option<ClockChange> {
        let local = self.zone.from_utc_datetime(&utc(due_at_ms)?).naive_local();
        match self.cron.is_time_matching(&local) {
            Ok(true) => match self.zone.offset_from_local_datetime(&local) {
                MappedLocalTime::Ambiguous(..) => Some(ClockChange::RepeatedTime),
                _ => None,
            },
            _ => Some(ClockChange::AfterGap),
        }
    }

    /// The fields, with numbers instead of names.
    pub fn fields(&self) -> Vec<&str> {
        fields(&self.cron)
    }

    /// croner's description, for entries without a short sentence.
    pub fn description(&self) -> String {
        self.cron.describe()
    }

    /// The name of its zone.
    pub fn zone_name(&self) -> &'static str {
        self.zone.name()
    }

    /// Each local time is one instant, and their order is the order of the local times. So the first
    /// instant after `after` is found by going through the local times.
    fn next_fixed_time(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut local = self.to_local(after);
        loop {
            local = self.next_local(local, false)?;
            let instant = match self.zone.offset_from_local_datetime(&local) {
                MappedLocalTime::Single(offset) => local - offset.fix(),
                MappedLocalTime::Ambiguous(one, other) => {
                    (local - one.fix()).min(local - other.fix())
                }
                MappedLocalTime::None => GapInfo::new(&local, &self.zone)?.end?.naive_utc(),
            };
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// A local time is no, one or two instants. The search starts early enough to find the second
    /// instant of local times that have passed once.
    fn next_by_the_clock(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let start = self.to_local(after) - self.change_of_offset(after);
        let mut local = self.next_local(start.with_nanosecond(0)?, true);
        let mut found: Option<NaiveDateTime> = None;
        while let Some(time) = local {
            let (first, last) = match self.zone.offset_from_local_datetime(&time) {
                MappedLocalTime::Single(offset) => (time - offset.fix(), time - offset.fix()),
                MappedLocalTime::Ambiguous(one, other) => {
                    let (one, other) = (time - one.fix(), time - other.fix());
                    (one.min(other), one.max(other))
                }
                MappedLocalTime::None => {
                    local = self.next_local(time, false);
                    continue;
                }
            };
            if first > after {
                // The first instants of all later local times are later.
                return Some(found.map_or(first, |found| found.min(first)));
            }
            if last > after {
                found = Some(found.map_or(last, |found| found.min(last)));
            }
            local = self.next_local(time, false);
        }
        found
    }

    fn next_local(&self, local: NaiveDateTime, is_inclusive: bool) -> Option<NaiveDateTime> {
        let found = self.cron.find_next_occurrence(&local, is_inclusive).ok()?;
        (found.year() <= LAST_YEAR).then_some(found)
    }

    fn to_local(&self, at: NaiveDateTime) -> NaiveDateTime {
        self.zone.from_utc_datetime(&at).naive_local()
    }

    /// How far the offset changes around an instant.
    fn change_of_offset(&self, at: NaiveDateTime) -> Duration {
        let step = Duration::hours(ZONE_STEP_HOURS);
        let offsets = [at - step, at, at + step].map(|at| self.to_local(at) - at);
        let least = offsets.iter().min().copied().unwrap_or_default();
        offsets.iter().max().copied().unwrap_or_default() - least
    }
}

fn utc(at_ms: i64) -> Option<NaiveDateTime> {
    Some(DateTime::<Utc>::from_timestamp_millis(at_ms)?.naive_utc())
}

fn fields(cron: &Cron) -> Vec<&str> {
    cron.as_str().split_whitespace().collect()
}
