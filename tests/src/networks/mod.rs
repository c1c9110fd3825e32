//! Bad networks between real hosts: packets pass from one network namespace to another through two
//! TUN devices, at the rate, with the delay and with the losses of a test.

mod matrix;
mod namespace;
mod network;
mod shaper;
mod tun;

pub use matrix::{Blackhole, Case, Outcome, Transport, measure};
pub use network::Network;
pub use shaper::{Conditions, Shaper};
