//! Tenants: plans, export and deletion.

pub(in crate::http) mod administration;
pub(in crate::http) mod tenant_deletion;
pub(in crate::http) mod tenant_export;
