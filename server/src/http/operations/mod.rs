//! Operations of the server itself: health, metrics, installation, and the dashboard.

pub(super) mod dashboard;
pub(super) mod health;
pub(super) mod install;
pub(super) mod metrics;
