//! The lines in which two outputs differ.
//!
//! Pure.

/// Most lines of one output that are compared. Longer outputs have no diff.
const MAX_LINES: usize = 1_000;
/// Lines around a difference that are shown.
const CONTEXT: usize = 1;

/// One line of a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DiffLine<'a> {
    Same(&'a str),
    Removed(&'a str),
    Added(&'a str),
}

/// The lines that `other` has and `usual` does not (`+`), the reverse (`-`), and one line around each
/// difference. `None` if an output is too long.
pub fn line_diff(usual: &str, other: &str) -> Option<Vec<String>> {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (usual.lines().collect(), other.lines().collect());
    if before.len() > MAX_LINES || after.len() > MAX_LINES {
        return None;
    }
    let lines = compare(&before, &after);
    let is_near = |index: usize| {
        let (from, to) = (index.saturating_sub(CONTEXT), (index + CONTEXT + 1).min(lines.len()));
        lines[from..to].iter().any(|line| !matches!(line, DiffLine::Same(_)))
    };
    let mut shown = Vec::new();
    let mut is_gap = false;
    for (index, line) in lines.iter().enumerate() {
        if !is_near(index) {
            is_gap = true;
            continue;
        }
        if std::mem::take(&mut is_gap) {
            shown.push("  …".to_owned());
        }
        shown.push(match line {
            DiffLine::Same(text) => format!("  {text}"),
            DiffLine::Removed(text) => format!("- {text}"),
            DiffLine::Added(text) => format!("+ {text}"),
        });
    }
    Some(shown)
}

/// A longest common subsequence of lines, with what is between.
fn compare<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<DiffLine<'a>> {
    let width = after.len() + 1;
    // The length of the longest common subsequence of the lines from each pair on.
    let mut lengths = vec![0_u16; (before.len() + 1) * width];
    for (row, old) in before.iter().enumerate().rev() {
        for (column, new) in after.iter().enumerate().rev() {
            let next = (row + 1) * width + column;
            lengths[row * width + column] = match old == new {
                true => lengths[next + 1] + 1,
                false => lengths[next].max(lengths[row * width + column + 1]),
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut lines = Vec::new();
    while row < before.len() || column < after.len() {
        let at = |row: usize, column: usize| lengths[row * width + column];
        match (before.get(row), after.get(column)) {
            (Some(old), Some(new)) if old == new => {
                lines.push(DiffLine::Same(old));
                (row, column) = (row + 1, column + 1);
            }
            (Some(old), Some(_)) if at(row + 1, column) >= at(row, column + 1) => {
                lines.push(DiffLine::Removed(old));
                row += 1;
            }
            (_, Some(new)) => {
                lines.push(DiffLine::Added(new));
                column += 1;
            }
            (Some(old), None) => {
                lines.push(DiffLine::Removed(old));
                row += 1;
            }
            (None, None) => break,
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn diff_shows_what_differs_and_one_line_around_it() {
        let usual = "a\nb\nc\nd\ne\nf\n";
        assert_eq!(
            line_diff(usual, "a\nb\nc\nX\ne\nf\n").expect("short"),
            ["  …", "  c", "- d", "+ X", "  e"]
        );
        assert_eq!(line_diff(usual, usual).expect("short"), Vec::<String>::new());
        assert_eq!(line_diff("", "new").expect("short"), ["+ new"]);
        assert_eq!(line_diff(&"x\n".repeat(MAX_LINES + 1), "x"), None);
    }

    proptest! {
        #[test]
        fn both_outputs_can_be_rebuilt_from_the_comparison(
            before in prop::collection::vec("[ab]", 0..12), after in prop::collection::vec("[ab]", 0..12)
        ) {
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            let after: Vec<&str> = after.iter().map(String::as_str).collect();
            let lines = compare(&before, &after);
            let old: Vec<_> = lines.iter().filter_map(|line| match line {
                DiffLine::Same(text) | DiffLine::Removed(text) => Some(*text),
                DiffLine::Added(_) => None,
            }).collect();
            let new: Vec<_> = lines.iter().filter_map(|line| match line {
                DiffLine::Same(text) | DiffLine::Added(text) => Some(*text),
                DiffLine::Removed(_) => None,
            }).collect();
            prop_assert_eq!((old, new), (before, after));
        }
    }
}
