//! Throw-away hosts and what can be wrong with a host: its clock, its disk.

pub mod fake_time;
pub mod host;
pub mod small_disk;
