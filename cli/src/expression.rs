//! Shows where an expression goes wrong.
//!
//! Pure: knows no server, only the column that it named.

use crate::error::CliError;

/// How much of a long expression is shown before and behind the place, in characters.
const MAX_AROUND: usize = 60;

/// For a refusal that names a column: that what was typed can't be meant, with a caret under it.
pub fn pointed_out(error: CliError, expression: &str) -> CliError {
    match error {
        CliError::Refused { sentence, column: Some(column), .. } => {
            CliError::Usage(format!("{sentence}\n{}", pointed(expression, column)))
        }
        error => error,
    }
}

/// Two lines: the expression, and a caret under the column, which counts from 1.
fn pointed(expression: &str, column: usize) -> String {
    let chars: Vec<_> = expression.chars().collect();
    let place = column.saturating_sub(1).min(chars.len());
    let (from, to) = (place.saturating_sub(MAX_AROUND), chars.len().min(place + MAX_AROUND));
    // A line break or a tab would move the caret away.
    let plain = |c: &char| if c.is_whitespace() { ' ' } else { *c };
    let (before, behind) =
        (if from > 0 { "…" } else { "" }, if to < chars.len() { "…" } else { "" });
    let shown: String = chars.get(from..to).unwrap_or_default().iter().map(plain).collect();
    let indent = " ".repeat(before.chars().count() + place - from);
    format!("  {before}{shown}{behind}\n  {indent}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_column() {
        assert_eq!(pointed("tag:web & ostype:x", 11), "  tag:web & ostype:x\n            ^");
        assert_eq!(pointed("tag:ü\t&\n", 9), "  tag:ü & \n          ^");
        assert_eq!(pointed("", 1), "  \n  ^");
        assert_eq!(pointed("a", 900), "  a\n   ^");
    }

    #[test]
    fn of_a_long_expression_only_the_place_is_shown() {
        let text = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let shown = pointed(&text, 501);
        let lines: Vec<_> = shown.lines().collect();
        let place = lines[1].chars().position(|c| c == '^').expect("a caret");
        assert_eq!(lines[0].chars().nth(place), Some('!'));
        assert!(lines[0].chars().count() < 130, "{shown}");
    }
}
