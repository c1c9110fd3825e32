//! Who may do what: keys, principals, audit.

pub(super) mod agent_keys;
pub(super) mod api_keys;
pub(super) mod audit;
