//! Access control: credentials, principals, scopes.

pub mod credential;
pub mod principal;
pub mod records;
