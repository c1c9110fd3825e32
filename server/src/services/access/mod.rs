//! Access control: keys, people, principals, the audit log.

pub(super) mod access_tokens;
pub mod account;
pub mod agent_keys;
pub mod api_key_changes;
pub mod api_keys;
pub mod audit_log;
pub mod authentication;
pub mod caller;
mod closed_tenants;
mod confirmation;
pub mod invitations;
pub(super) mod key_cache;
pub(super) mod key_uses;
pub mod key_watch;
pub(super) mod lookup_limiter;
pub mod members;
pub(super) mod passwords;
pub mod requested_limits;
pub mod setup;
pub mod sign_in;
pub(super) mod sign_in_limiter;
pub(super) mod stream_permits;
pub mod tenant_deletion;
pub mod tenant_export;
pub mod tenants;
pub(super) mod work_guard;
