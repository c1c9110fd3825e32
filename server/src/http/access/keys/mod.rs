//! Keys: API keys and agent keys.

pub(in crate::http) mod agent_keys;
pub(in crate::http) mod api_key_changes;
pub(in crate::http) mod api_keys;
