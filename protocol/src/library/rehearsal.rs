//! What a rehearsal found: where the dummy secrets of a run came out.

use serde::{Deserialize, Serialize};

/// Most leaks that a report has.
pub const MAX_LEAKS: usize = 50;
/// Longest detail of a leak, in characters.
pub const MAX_LEAK_DETAIL_CHARS: usize = 200;

/// What a host noticed during a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rehearsal {
    /// Each place where a secret came out, once.
    pub leaks: Vec<Leak>,
    /// False if there were more leaks, files or bytes than are looked at.
    pub is_complete: bool,
}

/// A place where a secret came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Leak {
    /// The name of the secret parameter.
    pub parameter: String,
    pub place: LeakPlace,
    /// The name of the process, or the path of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Kinds of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LeakPlace {
    /// Standard output. It is masked where it is stored.
    Stdout,
    /// Standard error. It is masked where it is stored.
    Stderr,
    /// The arguments of a process, which every user of the host can read.
    Arguments,
    /// A file that was left behind.
    File,
}

impl Rehearsal {
    /// A report without leaks.
    pub fn empty() -> Self {
        Self { leaks: Vec::new(), is_complete: true }
    }

    /// Adds a leak once.
    pub fn add(&mut self, parameter: &str, place: LeakPlace, detail: Option<String>) {
        let shown = |text: String| {
            let text: String = text.chars().take(MAX_LEAK_DETAIL_CHARS).collect();
            text.replace(char::is_control, "?")
        };
        let leak = Leak { parameter: parameter.to_owned(), place, detail: detail.map(shown) };
        if self.leaks.contains(&leak) {
            return;
        }
        if self.leaks.len() < MAX_LEAKS {
            self.leaks.push(leak);
        } else {
            self.is_complete = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_reported_once_and_reports_are_bounded() {
        let mut report = Rehearsal::empty();
        for _ in 0..2 {
            report.add("TOKEN", LeakPlace::Arguments, Some("a\nb".into()));
        }
        assert_eq!((report.leaks.len(), report.leaks[0].detail.as_deref()), (1, Some("a?b")));
        for number in 0..MAX_LEAKS {
            report.add("TOKEN", LeakPlace::File, Some(number.to_string() + &"x".repeat(999)));
        }
        assert_eq!((report.leaks.len(), report.is_complete), (MAX_LEAKS, false));
        assert!(
            report
                .leaks
                .iter()
                .all(|leak| leak.detail.as_deref().is_none_or(|text| text.len() <= 200))
        );
    }
}
