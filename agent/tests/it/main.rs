//! The agent from outside: real shims, real processes, and sessions over a link in memory.

mod custody;
mod exchange;
mod leaving;
mod process;
mod session;
mod support;
