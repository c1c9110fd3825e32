//! Times and amounts as users type them.
//!
//! Pure.

use std::time::Duration;

use serde_json::Value;

/// Units of [`format_milliseconds`], the largest first.
const UNITS: [(u64, &str); 5] =
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
/// Digits of one number in a time. More than these could overflow the parser's sum.
const MAX_DIGITS: usize = 15;

/// Reads a time such as `500ms`, `30s`, `1h 30m` or `7d`.
///
/// # Errors
/// A sentence for users. Months and years are refused: their length varies.
pub fn duration(typed: &str) -> Result<Duration, String> {
    let is_unit = |word: &str| {
        matches!(word, "M" | "month" | "months" | "y" | "yr" | "yrs" | "year" | "years")
    };
    if typed.split(|c: char| !c.is_alphabetic()).any(is_unit) {
        return Err("months and years have no fixed length; use days, such as 30d, \
                    or a lower-case m for minutes"
            .into());
    }
    let too_long = || "the time is too long".to_owned();
    if typed.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > MAX_DIGITS) {
        return Err(too_long());
    }
    humantime::parse_duration(typed).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => too_long(),
        _ => "use a number and a unit, such as 500ms, 30s, 5m, 1h or 7d".into(),
    })
}

/// Reads a [`duration`] of whole milliseconds.
///
/// # Errors
/// A sentence for users.
pub fn milliseconds(typed: &str) -> Result<u64, String> {
    let duration = duration(typed)?;
    if duration.subsec_nanos() % 1_000_000 != 0 {
        return Err("the smallest unit is 1ms".into());
    }
    u64::try_from(duration.as_millis()).map_err(|_| "the time is too long".into())
}

/// Milliseconds in the largest unit that is exact: `7d`, `90s`, `500ms`.
pub fn format_milliseconds(milliseconds: u64) -> String {
    let exact =
        |(unit, _): &&(u64, &str)| milliseconds.is_multiple_of(*unit) && milliseconds >= *unit;
    let (unit, name) = UNITS.iter().find(exact).unwrap_or(&(1, "ms"));
    format!("{}{name}", milliseconds / unit)
}

/// Reads a number, or a percentage as a string; the server checks its range.
///
/// # Errors
/// A sentence for users.
pub fn count_or_percentage(typed: &str) -> Result<Value, String> {
    let digits = typed.strip_suffix('%').unwrap_or(typed);
    match digits.parse::<u64>() {
        Ok(number) if digits == typed => Ok(number.into()),
        Ok(_) => Ok(typed.into()),
        Err(_) => Err("use a number such as 10, or a percentage such as 10%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn times_have_units() {
        for (typed, expected) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1h 30m", 5_400_000),
            ("1.5s", 1_500),
        ] {
            assert_eq!(milliseconds(typed), Ok(expected), "{typed}");
        }
        for wrong in ["", "30", "s", "-1s", "1q", "99999999999999999999s", "5us", "9 s 9"] {
            assert!(milliseconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn months_and_years_are_refused_with_the_reason() {
        for typed in ["1M", "2 months", "1y", "1h 1year"] {
            let error = milliseconds(typed).expect_err(typed);
            assert!(error.contains("no fixed length"), "{error}");
        }
        assert_eq!(milliseconds("2min"), Ok(120_000));
    }

    #[test]
    fn amounts_are_numbers_or_percentages() {
        assert_eq!(count_or_percentage("10"), Ok(json!(10)));
        assert_eq!(count_or_percentage("10%"), Ok(json!("10%")));
        assert!(count_or_percentage("ten").is_err());
    }

    #[test]
    fn milliseconds_are_shown_in_the_largest_exact_unit() {
        let shown = [0, 1, 90_000, 604_800_000, 3_600_000].map(format_milliseconds);
        assert_eq!(shown, ["0ms", "1ms", "90s", "7d", "1h"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9]{0,25}[a-zA-Zµ. ]{0,4}[0-9]{0,25}[a-z]{0,4}") {
            let _ = milliseconds(&text);
        }

        #[test]
        fn every_formatted_time_reads_back(time in 0..10_000_000_000_000_u64) {
            prop_assert_eq!(milliseconds(&format_milliseconds(time)), Ok(time));
        }
    }
}
