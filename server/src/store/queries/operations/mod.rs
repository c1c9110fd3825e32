//! Operations of the server itself: settings, statistics, sweeps.

pub(super) mod api_key_revocation;
pub(super) mod settings;
pub(super) mod statistics;
pub(super) mod sweeps;
