//! Pure rules. Knows no database, no socket, no clock of its own.

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
pub mod pluralize;
pub mod releases;
pub mod secret_box;
pub mod source;
pub mod time;
pub mod waves;
