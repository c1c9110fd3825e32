//! Patterns of texts: `*` stands for any characters, also none; `?` for exactly one.

use std::fmt;
use std::str::Chars;

/// What a text has to look like as a whole.
///
/// Printed as an expression reads it: bare, or in quotes if it holds other characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(pub Vec<Piece>);

/// One step of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// This character.
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
}

/// What else than the pattern itself decides.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    ignores_case: bool,
    /// The text may go on with a space behind the pattern.
    is_beginning: bool,
}

/// True for what needs no quotes in a value; the wildcards need none either.
pub fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-' | '+' | '@' | '~')
}

impl Pattern {
    /// True if the text is as the pattern says, capitals and all.
    pub fn matches(&self, text: &str) -> bool {
        self.fits(text, Reading::default())
    }

    /// True if the text is as the pattern says, whichever letters are capital.
    pub fn matches_in_any_case(&self, text: &str) -> bool {
        self.fits(text, Reading { ignores_case: true, ..Reading::default() })
    }

    /// True if the text, or some whole words at its beginning, are as the pattern says, whichever
    /// letters are capital.
    pub fn matches_first_words_in_any_case(&self, text: &str) -> bool {
        self.fits(text, Reading { ignores_case: true, is_beginning: true })
    }

    /// The one text that it stands for; `None` if there are wildcards.
    pub fn literal(&self) -> Option<String> {
        let char = |piece: &Piece| match piece {
            Piece::Char(c) => Some(*c),
            Piece::One | Piece::Many => None,
        };
        self.0.iter().map(char).collect()
    }

    /// Goes back to the last `*` alone, so that the time is bounded by the two lengths.
    fn fits(&self, text: &str, reading: Reading) -> bool {
        let (mut pieces, mut rest) = (self.0.as_slice(), text.chars());
        let mut last_many: Option<(&[Piece], Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            match (pieces.split_first(), ahead.next()) {
                (None, None) => return true,
                (None, Some(c)) if reading.is_beginning && c.is_whitespace() => return true,
                (Some((Piece::Many, after)), _) => {
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

impl Reading {
    fn is_same(self, piece: Piece, found: char) -> bool {
        match piece {
            Piece::One => true,
            Piece::Char(c) if !self.ignores_case => c == found,
            Piece::Char(c) if c.is_ascii() && found.is_ascii() => c.eq_ignore_ascii_case(&found),
            Piece::Char(c) => c.to_lowercase().eq(found.to_lowercase()),
            Piece::Many => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs_quotes = |piece: &Piece| matches!(piece, Piece::Char(c) if !is_bare(*c));
        let quote = if self.0.is_empty() || self.0.iter().any(needs_quotes) { "\"" } else { "" };
        f.write_str(quote)?;
        for piece in &self.0 {
            match piece {
                Piece::Char(c @ ('"' | '\\' | '*' | '?')) => write!(f, "\\{c}")?,
                Piece::Char(c) => write!(f, "{c}")?,
                Piece::One => f.write_str("?")?,
                Piece::Many => f.write_str("*")?,
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
            '*' => Piece::Many,
            '?' => Piece::One,
            c => Piece::Char(c),
        };
        Pattern(text.chars().map(piece).collect())
    }

    #[test]
    fn wildcards_stand_for_what_they_say() {
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
    fn letters_are_told_apart_by_case_only_where_it_counts() {
        assert!(!pattern("Web").matches("web"));
        assert!(pattern("WÜB*").matches_in_any_case("wübX"));
    }

    #[test]
    fn first_words_are_whole_words() {
        let fits = |text: &str, os: &str| pattern(text).matches_first_words_in_any_case(os);
        assert!(fits("linux", "Linux 6.8.0") && fits("linux 6.*", "Linux 6.8.0"));
        assert!(fits("ubuntu 22.04", "Ubuntu 22.04 LTS") && fits("linux", "Linux"));
        assert!(!fits("lin", "Linux 6.8.0") && !fits("6.8.0", "Linux 6.8.0"));
        assert!(fits("*x", "Lin 6x LTS") && !fits("", "Linux"));
    }

    /// The rule without thought for time: tries everything.
    fn obviously_fits(pieces: &[Piece], text: &[char]) -> bool {
        match (pieces.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((Piece::Many, after)), None) => obviously_fits(after, text),
            (Some((Piece::Many, after)), Some((_, rest))) => {
                obviously_fits(after, text) || obviously_fits(pieces, rest)
            }
            (Some((Piece::One, after)), Some((_, rest))) => obviously_fits(after, rest),
            (Some((Piece::Char(c), after)), Some((d, rest))) => {
                c == d && obviously_fits(after, rest)
            }
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_trying_everything(text in "[ab]{0,8}", pieces in "[ab?*]{0,8}") {
            let (pattern, chars) = (pattern(&pieces), text.chars().collect::<Vec<_>>());
            prop_assert_eq!(pattern.matches(&text), obviously_fits(&pattern.0, &chars));
        }
    }
}
