//! Times of day as users type them.
//!
//! Pure: the caller passes the present.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::quantities::duration;
use crate::error::CliError;

/// The RFC 3339 time of `2026-01-31T12:00:00Z`, of a date (midnight UTC), or of an age such as
/// `90s`, `15m`, `2h` or `7d` before `now`.
///
/// # Errors
/// [`CliError::Usage`] for anything else.
pub fn instant(typed: &str, now: DateTime<Utc>) -> Result<String, CliError> {
    let midnight = || format!("{typed}T00:00:00Z");
    let exact = DateTime::parse_from_rfc3339(typed)
        .or_else(|_| DateTime::parse_from_rfc3339(&midnight()))
        .map(|at| at.to_utc())
        .ok();
    let before = || {
        let age = TimeDelta::from_std(duration(typed).ok()?).ok()?;
        now.checked_sub_signed(age)
    };
    let at = exact.or_else(before);
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)).ok_or_else(|| {
        CliError::Usage(format!(
            "invalid time \"{typed}\": use RFC 3339 such as 2026-11-21T10:00:00Z, or an age such as 2h"
        ))
    })
}

/// As [`instant`], but a duration such as `30d` is counted from `now` on.
///
/// # Errors
/// [`CliError::Usage`] for anything else.
pub fn future_instant(typed: &str, now: DateTime<Utc>) -> Result<String, CliError> {
    let later = || {
        let time = TimeDelta::from_std(duration(typed).ok()?).ok()?;
        now.checked_add_signed(time)
    };
    match later() {
        Some(at) => Ok(at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        None => instant(typed, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Option<String> {
        let now = DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z").expect("fixed").to_utc();
        instant(typed, now).ok()
    }

    #[test]
    fn times_dates_and_ages_are_accepted() {
        for (typed, expected) in [
            ("2026-01-31T13:00:00+02:00", "2026-01-31T11:00:00.000Z"),
            ("2026-01-30", "2026-01-30T00:00:00.000Z"),
            ("90s", "2026-01-31T11:58:30.000Z"),
            ("15m", "2026-01-31T11:45:00.000Z"),
            ("2h", "2026-01-31T10:00:00.000Z"),
            ("7d", "2026-01-24T12:00:00.000Z"),
        ] {
            assert_eq!(read(typed).as_deref(), Some(expected), "{typed}");
        }
    }

    #[test]
    fn durations_are_counted_from_now_on_for_a_time_to_come() {
        let now = DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z").expect("fixed").to_utc();
        let read = |typed: &str| future_instant(typed, now).ok();
        assert_eq!(read("2d").as_deref(), Some("2026-02-02T12:00:00.000Z"));
        assert_eq!(read("2026-03-01").as_deref(), Some("2026-03-01T00:00:00.000Z"));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for typed in
            ["", "d", "yesterday", "2026-13-01", "-2h", "2M", "99999999999d", "4294967295d", "ü"]
        {
            assert_eq!(read(typed), None, "{typed}");
        }
    }
}
