//! Marks the place at which a target expression is invalid.
//!
//! Pure: the server names the column.

use crate::error::CliError;

/// Characters of a long expression that are shown before and after the column.
const MAX_AROUND: usize = 60;

/// Turns a refusal that names a column into a usage error with a caret under that column.
pub fn mark_column(error: CliError, expression: &str) -> CliError {
    match error {
        CliError::Refused(problem) if problem.column.is_some() => {
            let marked = marked(expression, problem.column.unwrap_or_default());
            CliError::Usage(format!("{}\n{marked}", problem.message))
        }
        error => error,
    }
}

/// Two lines: the expression, and a caret under the column, which counts from 1.
fn marked(expression: &str, column: usize) -> String {
    let chars: Vec<_> = expression.chars().collect();
    let place = column.saturating_sub(1).min(chars.len());
    let (from, to) = (place.saturating_sub(MAX_AROUND), chars.len().min(place + MAX_AROUND));
    // A line break or a tab would move the caret away.
    let plain = |c: &char| if c.is_whitespace() { ' ' } else { *c };
    let (before, after) =
        (if from > 0 { "…" } else { "" }, if to < chars.len() { "…" } else { "" });
    let shown: String = chars.get(from..to).unwrap_or_default().iter().map(plain).collect();
    let indent = " ".repeat(before.chars().count() + place - from);
    format!("  {before}{shown}{after}\n  {indent}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caret_is_under_the_column() {
        assert_eq!(marked("tag:web & ostype:x", 11), "  tag:web & ostype:x\n            ^");
        assert_eq!(marked("tag:ü\t&\n", 9), "  tag:ü & \n          ^");
        assert_eq!(marked("", 1), "  \n  ^");
        assert_eq!(marked("a", 900), "  a\n   ^");
    }

    #[test]
    fn long_expression_is_cut_around_the_column() {
        let text = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let shown = marked(&text, 501);
        let lines: Vec<_> = shown.lines().collect();
        let place = lines[1].chars().position(|c| c == '^').expect("a caret");
        assert_eq!(lines[0].chars().nth(place), Some('!'));
        assert!(lines[0].chars().count() < 130, "{shown}");
    }
}
