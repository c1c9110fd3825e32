//! The end-to-end tests, a file a theme. One program, so that they are linked once.

mod agents;
mod api;
mod cli;
mod clocks;
mod commands;
mod custody;
mod databases;
mod dependencies;
mod disk;
mod doctor;
mod dual_stack;
mod execute;
mod fallback;
mod harness;
mod hostile;
mod identity;
mod keys;
mod lifecycle;
mod proxy;
mod reverse_proxy;
mod runaways;
mod scripts;
mod storage;
mod third_party;
mod version;
