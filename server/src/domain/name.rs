//! Names, tags and texts that people type.

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 128;
/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 64;
/// Most tags of one agent, agent key or target.
pub const MAX_TAGS: usize = 64;

/// Fewest characters of an id that people type instead of all of it.
const MIN_ID_CHARS: usize = 8;
/// Characters of an id.
const ID_CHARS: usize = 36;

/// Checks a name: 1 to 128 characters, all of them visible.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let trimmed = name.trim();
    if trimmed.is_empty() || trimmed.len() != name.len() {
        return Err("must not be empty or start or end with a space");
    }
    if name.chars().count() > MAX_NAME_CHARS || name.chars().any(is_invisible) {
        return Err("must be at most 128 characters, without control or invisible characters");
    }
    Ok(())
}

/// Checks a text for people, which may have lines.
///
/// # Errors
/// A problem as the end of a sentence about it.
pub fn check_text(text: &str, max_chars: usize) -> Result<(), String> {
    if text.chars().count() > max_chars || text.chars().any(|c| c != '\n' && is_invisible(c)) {
        return Err(format!(
            "must be at most {max_chars} characters, without control or invisible characters"
        ));
    }
    Ok(())
}

/// Checks tags: at most 64, each 1 to 64 of letters, digits and `. _ : / -`.
pub fn check_tags(tags: &[String]) -> Result<(), &'static str> {
    let is_tag = |tag: &String| {
        (1..=MAX_TAG_BYTES).contains(&tag.len())
            && tag
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'-'))
    };
    if tags.len() > MAX_TAGS || !tags.iter().all(is_tag) {
        return Err("at most 64 tags, each 1 to 64 of letters, digits and . _ : / -");
    }
    Ok(())
}

/// Cleans a text that an agent reports about itself: truncates it, and removes invisible
/// characters.
pub fn clean(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !is_invisible(*c)).take(max_chars).collect()
}

/// [`clean`] for the name that a host reports. One that looks like the beginning of an id gets `host-`
/// before it: people type beginnings of ids, and would address this host instead of the one they mean.
pub fn clean_host_name(text: &str, max_chars: usize) -> String {
    let name = clean(text, max_chars);
    if is_like_id(&name) { format!("host-{name}") } else { name }
}

/// True for the first 8 characters or more of an id: hexadecimal digits, and dashes where an id has them.
fn is_like_id(name: &str) -> bool {
    let is_like = |(at, c): (usize, char)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    };
    (MIN_ID_CHARS..=ID_CHARS).contains(&name.len()) && name.chars().enumerate().all(is_like)
}

/// True for control and format characters and for line separators: the Unicode categories Cc, Cf,
/// Zl and Zp. Such characters make different names look equal, or reorder text.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_that_looks_like_the_start_of_an_id_is_marked() {
        for like in [
            "01a20734",
            "01A20734-",
            "01a20734-678c-71",
            "01a20734-678c-7107-8123-0123456789ab",
            "01a2\u{200b}0734",
        ] {
            let name = clean_host_name(like, 99);
            assert_eq!(name, format!("host-{}", clean(like, 99)));
        }
        for unlike in ["01a2073", "web-1", "3f4e9a1b2c3d", "01a20734-678c.example", "facade-1", ""]
        {
            assert_eq!(clean_host_name(unlike, 99), unlike);
        }
    }

    #[test]
    fn a_text_has_lines_and_a_limit() {
        assert!(check_text("two\nlines", 9).is_ok());
        assert!(check_text("ten chars!", 9).is_err() && check_text("a\u{202e}b", 9).is_err());
    }

    #[test]
    fn names_lose_invisible_characters_and_given_names_must_not_contain_them() {
        for hidden in [
            '\u{0}',
            '\u{7}',
            '\u{9f}',
            '\u{ad}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert_eq!(clean(&format!("pay{hidden}-1"), 99), "pay-1", "{hidden:?}");
            assert!(check_name(&format!("pay{hidden}-1")).is_err(), "{hidden:?}");
        }
        for shown in ["pay-1", "Zürich 2", "サーバー", "שרת", "🔑"] {
            assert_eq!(clean(shown, 99), shown);
            assert_eq!(check_name(shown), Ok(()));
        }
    }
}
