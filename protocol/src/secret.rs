//! The look of Muster's credentials: a prefix that scanners can find, then 256 random bits.

/// Starts an agent key.
pub const AGENT_KEY_PREFIX: &str = "mst_agent_";
/// Starts an API key.
pub const API_KEY_PREFIX: &str = "mst_live_";
/// Fewest characters behind the prefix.
pub const MIN_SECRET_CHARS: usize = 32;
/// Most characters behind the prefix.
pub const MAX_SECRET_CHARS: usize = 128;

/// True if `text` has this prefix and a body of the right length and alphabet.
pub fn is_well_formed(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|body| {
        (MIN_SECRET_CHARS..=MAX_SECRET_CHARS).contains(&body.len())
            && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    })
}
