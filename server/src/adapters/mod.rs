//! The outside world, each behind what the services need of it.

pub mod program_files;
