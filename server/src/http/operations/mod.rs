//! Operations of the server itself: health, metrics, installation, storage, and the dashboard.

pub(super) mod dashboard;
pub(super) mod health;
pub(super) mod install;
pub(super) mod metrics;
pub(super) mod storage;
