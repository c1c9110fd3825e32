//! Access control: the audit log.

pub(super) mod append_audit;
