//! Operations of the server itself: health, metrics, installation.

pub(super) mod health;
pub(super) mod install;
pub(super) mod metrics;
