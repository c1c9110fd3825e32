//! Servers under test and their certificates.

pub mod authority;
pub mod identity_provider;
pub mod server;
