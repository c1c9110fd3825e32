//! Operations of the server itself: maintenance, metrics, installation, the master key.

pub mod installation;
pub mod maintenance;
pub mod master_key;
pub mod monitoring;
pub mod readiness;
