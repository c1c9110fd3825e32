//! What commands carry: names and permissions, argument lists, steps, standard input, files, capsules
//! of approval and signed results.

pub mod argv;
pub mod attestation;
pub mod capsule;
pub mod command;
pub mod file_transfer;
pub mod permission;
pub mod probe;
pub mod stdin;
pub mod step;
