//! Servers under test and their certificates.

pub mod authority;
pub mod server;
