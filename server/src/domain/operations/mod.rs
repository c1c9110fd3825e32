//! Operations of the server itself.

pub mod master_key;
