//! The listening address: accepts, secures, limits and ends connections.
//!
//! It passes requests to a router and does not know what they mean. Every wait for a peer has a limit:
//! for the TLS handshake, for the first request, for its body, between two requests, and for an answer
//! to be read.

mod acceptor;
mod bounded;
mod certificate;
mod connection;
mod handshake;
mod limits;
mod paced_body;
mod renewal;

pub use self::acceptor::{Bound, ListenError};
pub use self::certificate::{CertificateError, TlsFiles};
pub use self::limits::{Limits, open_file_limit};
pub use self::renewal::Certificate;
