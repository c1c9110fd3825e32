//! Text patterns: `*` matches any number of characters, and `?` exactly one.

use std::fmt;
use std::str::Chars;

/// A pattern for a whole text.
///
/// `Display` prints the form that an expression reads: bare, or in quotes if it contains other
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(pub Vec<PatternPiece>);

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternPiece {
    /// This character.
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
}

/// Options of a match.
#[derive(Debug, Clone, Copy, Default)]
struct MatchOptions {
    ignores_case: bool,
    /// The text may continue with a space after the pattern.
    is_start: bool,
}

/// True for characters that need no quotes in a value. Wildcards need none either.
pub fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-' | '+' | '@' | '~')
}

impl Pattern {
    /// True if the text matches, case-sensitive.
    pub fn matches(&self, text: &str) -> bool {
        self.fits(text, MatchOptions::default())
    }

    /// True if the text matches, case-insensitive.
    pub fn matches_in_any_case(&self, text: &str) -> bool {
        self.fits(text, MatchOptions { ignores_case: true, ..MatchOptions::default() })
    }

    /// True if the text, or some whole words at its start, match, case-insensitive.
    pub fn matches_first_words_in_any_case(&self, text: &str) -> bool {
        self.fits(text, MatchOptions { ignores_case: true, is_start: true })
    }

    /// The only text that the pattern matches; `None` if it has wildcards.
    pub fn literal(&self) -> Option<String> {
        let char = |piece: &PatternPiece| match piece {
            PatternPiece::Char(c) => Some(*c),
            PatternPiece::One | PatternPiece::Many => None,
        };
        self.0.iter().map(char).collect()
    }

    /// Backtracks only to the last `*`, so that the time is bounded by the product of the two
    /// lengths.
    fn fits(&self, text: &str, reading: MatchOptions) -> bool {
        let (mut pieces, mut rest) = (self.0.as_slice(), text.chars());
        let mut last_many: Option<(&[PatternPiece], Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            match (pieces.split_first(), ahead.next()) {
                (None, None) => return true,
                (None, Some(c)) if reading.is_start && c.is_whitespace() => return true,
                (Some((PatternPiece::Many, after)), _) => {
                    last_many = Some((after, rest.clone()));
                    pieces = after;
                }
                (Some((piece, after)), Some(c)) if reading.is_same(*piece, c) => {
                    (pieces, rest) = (after, ahead);
                }
                _ => {
                    let Some((after, from)) = &mut last_many else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (pieces, rest) = (after, from.clone());
                }
            }
        }
    }
}

impl MatchOptions {
    fn is_same(self, piece: PatternPiece, found: char) -> bool {
        match piece {
            PatternPiece::One => true,
            PatternPiece::Char(c) if !self.ignores_case => c == found,
            PatternPiece::Char(c) if c.is_ascii() && found.is_ascii() => {
                c.eq_ignore_ascii_case(&found)
            }
            PatternPiece::Char(c) => c.to_lowercase().eq(found.to_lowercase()),
            PatternPiece::Many => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs_quotes =
            |piece: &PatternPiece| matches!(piece, PatternPiece::Char(c) if !is_bare(*c));
        let quote = if self.0.is_empty() || self.0.iter().any(needs_quotes) { "\"" } else { "" };
        f.write_str(quote)?;
        for piece in &self.0 {
            match piece {
                PatternPiece::Char(c @ ('"' | '\\' | '*' | '?')) => write!(f, "\\{c}")?,
                PatternPiece::Char(c) => write!(f, "{c}")?,
                PatternPiece::One => f.write_str("?")?,
                PatternPiece::Many => f.write_str("*")?,
            }
        }
        f.write_str(quote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        let piece = |c| match c {
            '*' => PatternPiece::Many,
            '?' => PatternPiece::One,
            c => PatternPiece::Char(c),
        };
        Pattern(text.chars().map(piece).collect())
    }

    #[test]
    fn wildcards_match_any_text_and_single_characters() {
        for (text, fitting, other) in [
            ("db-*", "db-1", "adb-1"),
            ("db-*", "db-", "db"),
            ("*x", "x", ""),
            ("?", "ü", ""),
            ("a*b*c", "axbxbxc", "axbxbx"),
            ("*.eu.*-?", "x.eu.y.eu.z-1", "x.eu.y-"),
            ("", "", "x"),
        ] {
            assert!(pattern(text).matches(fitting), "{text} {fitting}");
            assert!(!pattern(text).matches(other), "{text} {other}");
        }
    }

    #[test]
    fn case_only_matters_in_case_sensitive_matches() {
        assert!(!pattern("Web").matches("web"));
        assert!(pattern("WÜB*").matches_in_any_case("wübX"));
    }

    #[test]
    fn first_words_must_be_whole_words() {
        let fits = |text: &str, os: &str| pattern(text).matches_first_words_in_any_case(os);
        assert!(fits("linux", "Linux 6.8.0") && fits("linux 6.*", "Linux 6.8.0"));
        assert!(fits("ubuntu 22.04", "Ubuntu 22.04 LTS") && fits("linux", "Linux"));
        assert!(!fits("lin", "Linux 6.8.0") && !fits("6.8.0", "Linux 6.8.0"));
        assert!(fits("*x", "Lin 6x LTS") && !fits("", "Linux"));
    }

    /// A simple implementation that tries every possibility.
    fn obviously_fits(pieces: &[PatternPiece], text: &[char]) -> bool {
        match (pieces.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((PatternPiece::Many, after)), None) => obviously_fits(after, text),
            (Some((PatternPiece::Many, after)), Some((_, rest))) => {
                obviously_fits(after, text) || obviously_fits(pieces, rest)
            }
            (Some((PatternPiece::One, after)), Some((_, rest))) => obviously_fits(after, rest),
            (Some((PatternPiece::Char(c), after)), Some((d, rest))) => {
                c == d && obviously_fits(after, rest)
            }
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_an_exhaustive_search(text in "[ab]{0,8}", pieces in "[ab?*]{0,8}") {
            let (pattern, chars) = (pattern(&pieces), text.chars().collect::<Vec<_>>());
            prop_assert_eq!(pattern.matches(&text), obviously_fits(&pattern.0, &chars));
        }
    }
}
