//! Access control: keys, principals, the audit log.

pub(super) mod agent_keys;
pub(super) mod api_key_changes;
pub(super) mod api_keys;
pub(super) mod audit;
pub(super) mod explain;
pub mod setup;
