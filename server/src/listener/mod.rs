//! The one listening address: accepts, secures and bounds connections, and ends them.
//!
//! Hands requests to a router and knows nothing of what they mean. Every wait for the other side is
//! bounded here: for the handshake of TLS, for the first request, between two requests, for an answer to be read.

mod acceptor;
mod bounded;
mod certificate;
mod client_verifier;
mod connection;
mod handshake;
mod limits;
mod paced_body;
mod refusal;
mod renewal;
mod source_limiter;

pub use self::acceptor::{Bound, ListenError};
pub use self::certificate::{CertificateError, TlsFiles};
pub use self::client_verifier::ClientVerifier;
pub use self::limits::{Limits, open_file_limit};
pub use self::renewal::Certificate;
