//! Instants and durations as people read them: one notation everywhere.
//!
//! Pure, but for the zone of this machine.

use std::fmt::Display;

use chrono::{DateTime, Local, TimeZone, Utc};

/// Length of an instant of the API, such as `2026-01-31T12:00:00.000Z`.
const INSTANT_CHARS: usize = 24;

/// The zone in which instants are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// That of this machine.
    #[default]
    Local,
    /// With a `Z` at the end.
    Utc,
}

impl TimeFormat {
    /// Date and time to the second: `2026-01-31 12:00:00`. Any other text stays as it is.
    pub fn instant(self, text: &str) -> String {
        self.format(text, "%Y-%m-%d %H:%M:%S")
    }

    /// Month, day, hour and minute, for narrow tables.
    pub fn short_instant(self, text: &str) -> String {
        self.format(text, "%m-%d %H:%M")
    }

    /// Replaces the instants in a sentence of the server.
    pub fn sentence(self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let instant = rest
                .get(..INSTANT_CHARS)
                .filter(|word| word.ends_with('Z') && DateTime::parse_from_rfc3339(word).is_ok());
            match instant {
                Some(word) => {
                    shown.push_str(&self.instant(word));
                    rest = &rest[INSTANT_CHARS..];
                }
                None => {
                    shown.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        shown
    }

    fn format(self, text: &str, format: &str) -> String {
        match (DateTime::parse_from_rfc3339(text), self) {
            (Ok(at), Self::Local) => shown(&at.with_timezone(&Local), format, ""),
            (Ok(at), Self::Utc) => shown(&at.with_timezone(&Utc), format, "Z"),
            (Err(_), _) => text.to_owned(),
        }
    }
}

fn shown<Zone: TimeZone>(at: &DateTime<Zone>, format: &str, suffix: &str) -> String
where
    Zone::Offset: Display,
{
    format!("{}{suffix}", at.format(format))
}

/// A duration in at most two units: `340 ms`, `1.2 s`, `2m 5s`, `3h 20m`, `4d 1h`.
pub fn shown_milliseconds(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let two = |large: u64, name: &str, small: u64, next: &str| match small {
        0 => format!("{large}{name}"),
        small => format!("{large}{name} {small}{next}"),
    };
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{}.{} s", seconds, milliseconds % 1_000 / 100),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_a_sentence_are_shown_like_those_of_tables() {
        let text = "web-1 is offline since 2026-01-31T12:00:00.123Z. It – é – expires at 2026-02-01T12:00:00.000Z.";
        assert_eq!(
            TimeFormat::Utc.sentence(text),
            "web-1 is offline since 2026-01-31 12:00:00Z. It – é – expires at 2026-02-01 12:00:00Z."
        );
        assert_eq!(TimeFormat::Utc.short_instant("2026-01-31T12:00:00.123Z"), "01-31 12:00Z");
        assert_eq!(TimeFormat::Local.instant("soon"), "soon");
        assert_eq!(TimeFormat::Local.instant("2026-01-31T12:00:00.123Z").len(), 19);
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let shown = [0, 340, 1_250, 60_000, 125_000, 12_000_000, 349_200_000];
        assert_eq!(
            shown.map(shown_milliseconds),
            ["0 ms", "340 ms", "1.2 s", "1m", "2m 5s", "3h 20m", "4d 1h"]
        );
    }
}
