//! The id of a request to the server, which its log and the log of the agent name.

/// Longest id that a caller may choose.
pub const MAX_REQUEST_ID_BYTES: usize = 64;

/// True for an id that is short and plain: it is written to logs.
pub fn is_request_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_REQUEST_ID_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_id_is_short_and_plain() {
        for text in ["1", "01999999-9999-7999-8999-999999999999", "a_b.C-9", &"x".repeat(64)] {
            assert!(is_request_id(text), "{text}");
        }
        for text in ["", "a b", "a\tb", "é", "a\"b", "<b>", "a/b", "a\u{1b}[0m", &"x".repeat(65)] {
            assert!(!is_request_id(text), "{text}");
        }
    }
}
