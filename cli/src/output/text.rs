//! Small texts: counts, and text from hosts without control characters.
//!
//! Pure.

use serde_json::Value;

/// A count with its noun: `1 agent`, `2 agents`.
pub fn pluralize(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// A sentence about a changed object, by its name or else its id: `Key fleet is disabled.`
pub fn about(noun: &str, done: &str) -> impl FnOnce(&Value) -> String {
    let (noun, done) = (noun.to_owned(), done.to_owned());
    move |object| {
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        match text("name").or_else(|| text("id")) {
            Some(name) => format!("{noun} {name} {done}."),
            None => format!("{noun} {done}."),
        }
    }
}

/// Replaces the characters that could control the terminal. Text from hosts is not trusted.
pub fn sanitize(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// As [`sanitize`], for a text with lines.
pub fn sanitize_lines(text: &str) -> String {
    let is_strange = |c: char| !matches!(c, '\n' | '\t') && is_control(c);
    text.chars().map(|c| if is_strange(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// True for control characters and for marks that change the reading direction.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_names_the_object() {
        let key = serde_json::json!({"id": "7", "name": "fleet"});
        assert_eq!(about("Key", "is disabled")(&key), "Key fleet is disabled.");
        assert_eq!(about("Key", "is disabled")(&Value::Null), "Key is disabled.");
    }

    #[test]
    fn noun_is_singular_for_one_only() {
        let shown = [0, 1, 2].map(|count| pluralize(count, "agent"));
        assert_eq!(shown, ["0 agents", "1 agent", "2 agents"]);
    }
}
