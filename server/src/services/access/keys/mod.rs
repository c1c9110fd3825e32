//! Keys: API keys and agent keys.

pub mod agent_keys;
pub mod api_key_changes;
pub mod api_keys;
pub(in crate::services) mod key_cache;
pub(in crate::services) mod key_uses;
pub mod key_watch;
mod local_agent_key;
pub(in crate::services) mod lookup_limiter;
pub mod requested_limits;
