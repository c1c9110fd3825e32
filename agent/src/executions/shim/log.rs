//! The log of a shim: a file in the execution's folder, created with its first line.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::storage::layout::ExecutionDir;

/// The log of one shim.
#[derive(Debug, Clone)]
pub struct Log(PathBuf);

impl Log {
    pub fn of(execution: &ExecutionDir) -> Self {
        Self(execution.log())
    }

    /// Appends a line. Errors are ignored: the log may be on a full disk, which is no reason to end
    /// a run.
    pub fn line(&self, text: impl Display) {
        let mut options = OpenOptions::new();
        if let Ok(mut file) = options.create(true).append(true).mode(0o600).open(&self.0) {
            let _ = writeln!(file, "{text}");
        }
    }

    /// Writes panics to the log too, because the output of a shim is discarded.
    pub fn capture_panics(&self) {
        let log = self.clone();
        std::panic::set_hook(Box::new(move |panic| log.line(panic)));
    }
}
