//! Simulated agents over real sockets.
//!
//! Each agent is one task with one connection. All share one thread, so that the fleet costs the
//! measured server as little as possible. A process opens at most [`MAX_SOCKETS`].

mod agent;
mod control;
mod fleet_state;
mod identity;
mod socket;
mod work;

pub use self::control::{serve_alone, serve_shared};
pub use self::fleet_state::{FleetState, Plan};
pub use self::socket::websocket_config;

/// Sockets of one process; open files are often limited to 20,000.
pub const MAX_SOCKETS: usize = 19_000;
