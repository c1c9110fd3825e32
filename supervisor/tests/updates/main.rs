//! Updates by the real supervisor, with agents that are shell scripts: full disks, a second
//! supervisor, restarts.

#![cfg(unix)]

#[path = "../harness/mod.rs"]
mod harness;

mod boot_counter;
mod downloads;
mod full_disk;
mod installation;
mod pins;
mod trials;
mod versions;
