//! Tenants: plans, export and deletion.

pub mod administration;
pub(super) mod closed_tenants;
pub mod tenant_deletion;
pub mod tenant_export;
