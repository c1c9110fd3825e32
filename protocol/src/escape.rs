//! Shows texts of others on a terminal.

/// Replaces everything that is not printable by its Unicode escape: control characters, and
/// invisible ones that reorder or hide text. Backslashes are doubled, so that an escape can't be
/// imitated.
pub fn for_terminal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_or_hides_is_left() {
        assert_eq!(for_terminal("plain \"text\" über 日本"), "plain \"text\" über 日本");
        for (hostile, shown) in [
            ("\u{1b}[31m", "\\u{1b}[31m"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\u{202e}\u{200b}\u{2028}\u{61c}", "\\u{202e}\\u{200b}\\u{2028}\\u{61c}"),
            ("\\u{1b}", "\\\\u{1b}"),
            ("\u{9b}", "\\u{9b}"),
        ] {
            assert_eq!(for_terminal(hostile), shown);
        }
    }
}
