//! The agent from outside: real shims, real processes, and sessions over a link in memory.

mod assignments;
mod deregister;
mod exchange;
mod executions;
mod explain;
mod floods;
mod owner;
mod played_server;
mod process;
mod recovery;
mod secret_files;
mod session_output;
mod sessions;
mod steps;
mod support;
