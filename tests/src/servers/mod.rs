//! Servers under test and their certificates, and a mail server.

pub mod authority;
pub mod server;
pub mod smtp_sink;
