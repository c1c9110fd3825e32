//! Servers under test and their certificates, and a mail server.

pub mod authority;
pub mod identity_provider;
pub mod server;
pub mod smtp_sink;
