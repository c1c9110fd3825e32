//! Running the server itself: maintenance, statistics, installation.

pub(super) mod health;
pub(super) mod install;
pub(super) mod metrics;
