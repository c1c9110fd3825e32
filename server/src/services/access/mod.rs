//! Access control: keys, principals, the audit log.

pub mod agent_keys;
pub mod api_key_changes;
pub mod api_keys;
pub mod audit_log;
pub mod authentication;
pub mod caller;
pub(super) mod key_cache;
pub(super) mod key_uses;
pub mod key_watch;
pub(super) mod lookup_limiter;
pub(super) mod passwords;
pub mod requested_limits;
pub mod setup;
pub(super) mod stream_permits;
pub mod tenants;
pub(super) mod work_guard;
