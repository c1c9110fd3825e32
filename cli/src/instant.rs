//! Instants as people type them.
//!
//! Pure: the present is passed in.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::error::CliError;

/// The RFC 3339 instant of `2026-01-31T12:00:00Z`, of a date (its begin, UTC), or of an age such as
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
    let at = exact.or_else(|| now.checked_sub_signed(age(typed)?));
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)).ok_or_else(|| {
        CliError::Usage(format!(
            "{typed} is no instant: write 2026-01-31T12:00:00Z, 2026-01-31, or an age such as 15m, 2h, 7d"
        ))
    })
}

fn age(typed: &str) -> Option<TimeDelta> {
    let unit = typed.chars().last()?;
    let count: u32 = typed.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    TimeDelta::try_seconds(i64::from(count) * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Option<String> {
        let now = DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z").expect("fixed").to_utc();
        instant(typed, now).ok()
    }

    #[test]
    fn instants_dates_and_ages_are_understood() {
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
    fn what_is_no_instant_is_refused() {
        for typed in
            ["", "d", "yesterday", "2026-13-01", "-2h", "2 h", "99999999999d", "4294967295d", "ü"]
        {
            assert_eq!(read(typed), None, "{typed}");
        }
    }
}
