//! The agent from outside: real shims, real processes, and sessions over a link in memory.

mod deregister;
mod exchange;
mod executions;
mod process;
mod sessions;
mod support;
