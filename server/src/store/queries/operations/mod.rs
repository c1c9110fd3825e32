//! Running the server itself: maintenance, statistics, installation.

pub(super) mod settings;
pub(super) mod statistics;
pub(super) mod sweeps;
