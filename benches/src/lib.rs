//! Measures the performance targets of this repository.
//!
//! `muster-benches` starts the programs that it measures, and measures an anchor beside each
//! figure: the same work done by a minimal program, in the same run on the same machine. Machines
//! differ and are noisy; ratios are stable. `muster-fleet` simulates any number of agents over real
//! sockets. Nothing here asserts.

pub mod anchor;
pub mod fleet;
pub mod load;
pub mod measure;
pub mod process;
pub mod report;
