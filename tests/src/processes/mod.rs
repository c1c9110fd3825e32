//! Programs, their processes and ports, and the directory and the run of a test.

pub mod binaries;
mod freshness;
pub mod ports;
pub mod process;
pub mod process_tree;
pub mod test_dir;
pub mod test_run;
pub mod tools;
