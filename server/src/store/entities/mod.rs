//! A file per table. Instants are milliseconds since the Unix epoch, lists and objects JSON text.

pub mod access;
pub mod column;
pub mod commands;
pub mod fleet;
pub mod integrations;
pub mod operations;
pub mod releases;
