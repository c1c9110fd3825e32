//! Access control: keys, principals, the audit log.

pub(super) mod audit;
pub(super) mod audit_export;
pub(super) mod audit_query;
pub(super) mod explain;
pub mod keys;
pub mod people;
pub mod tenants;
