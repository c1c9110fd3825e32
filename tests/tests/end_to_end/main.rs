//! The end-to-end tests, a file a theme. One program, so that they are linked once.

mod agents;
mod api;
mod cli;
mod clocks;
mod commands;
mod connections;
mod custody;
mod databases;
mod dependencies;
mod disk;
mod execute;
mod fallback;
mod harness;
mod hostile;
mod identity;
mod keys;
mod lifecycle;
mod runaways;
mod scripts;
mod storage;
mod third_party;
mod tls;
mod unit;
mod version;
