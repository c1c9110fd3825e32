//! Throw-away hosts, and faults of hosts: a wrong clock, a full disk.

pub mod fake_time;
pub mod host;
pub mod small_disk;
