//! When a key expires, as users type it.

use chrono::Utc;

use super::instants::future_instant;

/// RFC 3339; `None` for never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry(pub Option<String>);

/// Reads a time, a duration from now on, or `never`.
///
/// # Errors
/// A sentence for users.
pub fn expiry(typed: &str) -> Result<Expiry, String> {
    match typed {
        "never" => Ok(Expiry(None)),
        typed => match future_instant(typed, Utc::now()) {
            Ok(at) => Ok(Expiry(Some(at))),
            Err(_) => {
                Err("use a time such as 2027-01-31T00:00:00Z, a duration such as 90d, or never"
                    .into())
            }
        },
    }
}
