//! How many there are of something, in words.

/// `1 agent`, `2 agents`.
pub fn pluralize(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
