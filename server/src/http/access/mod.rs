//! Access control: keys, principals, the audit log.

pub(super) mod account;
pub(super) mod agent_keys;
pub(super) mod api_key_changes;
pub(super) mod api_keys;
pub(super) mod audit;
pub(super) mod audit_export;
pub(super) mod audit_query;
pub(super) mod explain;
pub(super) mod invitations;
pub(super) mod members;
pub mod setup;
pub(super) mod sign_in;
pub(super) mod tenant_deletion;
pub(super) mod tenant_export;
pub(super) mod tenants;
