//! What figures are set beside: the same work, done by something bare.

mod bare;
pub mod disk;
mod nats;
pub mod table;

pub use self::bare::Bare;
pub use self::nats::{Exchange, request_reply};
