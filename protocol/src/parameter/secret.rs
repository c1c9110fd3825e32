//! The format of Muster's credentials: a prefix that scanners can find, then 256 random bits.

/// Prefix of an agent key.
pub const AGENT_KEY_PREFIX: &str = "mst_agent_";
/// Prefix of an API key.
pub const API_KEY_PREFIX: &str = "mst_live_";
/// Fewest characters after the prefix.
pub const MIN_SECRET_CHARS: usize = 32;
/// Most characters after the prefix.
pub const MAX_SECRET_CHARS: usize = 128;

/// True if `text` has this prefix and a body of valid length and alphabet.
pub fn is_well_formed(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|body| {
        (MIN_SECRET_CHARS..=MAX_SECRET_CHARS).contains(&body.len())
            && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    })
}
