//! The difference between two versions as a unified diff.

use std::time::Duration;

use similar::TextDiff;

/// How long a diff may search for the shortest form. A longer one is still correct.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(200);
/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// The unified diff of two texts; empty if they are equal.
pub fn unified(from: (&str, &str), to: (&str, &str)) -> String {
    let ((from_name, from), (to_name, to)) = (from, to);
    if from == to {
        return String::new();
    }
    let diff = TextDiff::configure().timeout(SEARCH_TIMEOUT).diff_lines(from, to);
    diff.unified_diff().context_radius(CONTEXT_LINES).header(from_name, to_name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_both_versions_and_equal_texts_have_none() {
        assert_eq!(unified(("a@1", "x\n"), ("a@2", "x\n")), "");
        let diff = unified(("a@1", "one\ntwo\n"), ("a@2", "one\nthree"));
        assert!(diff.starts_with("--- a@1\n+++ a@2\n"), "{diff}");
        assert!(diff.contains("-two\n") && diff.contains("+three\n"), "{diff}");
    }

    #[test]
    fn the_worst_texts_have_a_diff_too() {
        let text = |salt: usize| -> String {
            (0..30_000).map(|n| format!("{}\n", (n * 7_919 + salt) % 1_009)).collect()
        };
        assert!(!unified(("a", &text(1)), ("b", &text(2))).is_empty());
    }
}
