//! Updates by the real supervisor, of agents that are shell scripts: what no disk, no second
//! supervisor and no restart may spoil.

#![cfg(unix)]

#[path = "../harness/mod.rs"]
mod harness;

mod downloads;
mod guard;
mod installation;
mod pins;
mod trials;
mod unwritable;
mod versions;
