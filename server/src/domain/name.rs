//! Names and tags that people give.

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 128;
/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 64;
/// Most tags of one thing.
pub const MAX_TAGS: usize = 64;

/// Checks a name for people: 1 to 128 characters, none of them a control character.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let trimmed = name.trim();
    if trimmed.is_empty() || trimmed.len() != name.len() {
        return Err("must not be empty or start or end with a space");
    }
    if name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err("must be at most 128 characters, without control characters");
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

/// What an agent says of itself, cut to a bound and without control characters.
pub fn clean(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max_chars).collect()
}
