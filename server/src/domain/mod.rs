//! Pure rules. They know no database, sockets or clock of their own.

pub mod access;
pub mod commands;
pub mod field_error;
pub mod fleet;
pub mod ids;
pub mod integrations;
pub mod name;
pub mod operations;
pub mod origin;
pub mod page;
pub mod releases;
pub mod secret_box;
pub mod source;
pub mod time;
pub mod waves;
