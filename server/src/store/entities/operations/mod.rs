//! Operations of the server itself.

pub mod setting;
