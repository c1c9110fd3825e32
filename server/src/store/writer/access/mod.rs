//! Who may do what: keys, principals, audit.

pub(super) mod append_audit;
