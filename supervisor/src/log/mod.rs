//! The supervisor's log: lines on standard error, or in a file for hosts without a service manager
//! that keeps a log.

mod file;
mod writer;

pub use file::{LogFile, LogFileError};
pub use writer::{Level, Log};
