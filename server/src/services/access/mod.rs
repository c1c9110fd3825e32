//! Access control: keys, people, principals, the audit log.

pub mod audit_log;
pub mod authentication;
pub mod caller;
pub mod keys;
pub mod mails;
pub mod people;
pub(super) mod stream_permits;
pub mod tenants;
pub(super) mod work_guard;
