//! Child processes of a test: programs, ports, the test's directory.

pub mod binaries;
pub mod ports;
pub mod process;
pub mod process_tree;
pub mod test_dir;
