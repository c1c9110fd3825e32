//! Simulated agents over real sockets.
//!
//! Each agent is one task with one connection; all share one thread, so that a fleet costs what it
//! measures as little as possible. A process holds [`MAX_SOCKETS`] at the most.

mod agent;
mod board;
mod identity;
mod share;
mod socket;
mod work;

pub use self::board::{Board, Plan};
pub use self::share::{serve_alone, serve_shared};
pub use self::socket::websocket_config;

/// Sockets of one process; open files are often limited to 20,000.
pub const MAX_SOCKETS: usize = 19_000;
