//! Anchors: the same work, done by minimal programs.

pub mod disk;
mod nats;
mod server;
pub mod table;

pub use self::nats::{NatsWorkload, request_reply};
pub use self::server::AnchorServer;
