//! Access control: credentials, people, principals, scopes.

pub mod credential;
pub mod email;
pub mod password;
pub mod principal;
pub mod records;
