//! Who may do what: keys, principals, audit.

pub mod credential;
pub mod principal;
