//! The performance claims of this repository, measured.
//!
//! `muster-benches` starts what it measures, and beside each figure an anchor: the same work done
//! by something bare, in the same run on the same machine. Machines differ and are noisy; ratios
//! stay. `muster-fleet` plays any number of agents over real sockets. Nothing here asserts.

pub mod anchor;
pub mod fleet;
pub mod load;
pub mod measure;
pub mod process;
pub mod report;
