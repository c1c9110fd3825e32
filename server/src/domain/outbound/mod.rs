//! Addresses that this server connects to because a person configured them: receivers of webhooks and
//! providers of single sign-on.
//!
//! Opens no connections. Names are resolved elsewhere, and [`address`] classifies every address.

pub mod address;
mod url;

pub use self::url::{InvalidUrl, MAX_URL_BYTES, OutboundUrl};

/// Where requests may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundReach {
    /// Only to public addresses, by `https`.
    Public,
    /// Also to private addresses, by `https` or `http`.
    Private,
}
