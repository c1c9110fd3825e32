//! What a shim has to say for itself: a file in the execution's folder, made at the first word.

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

    /// Adds a line. The log may be on the very disk that is full, which is no reason to end a run.
    pub fn line(&self, text: impl Display) {
        let mut options = OpenOptions::new();
        if let Ok(mut file) = options.create(true).append(true).mode(0o600).open(&self.0) {
            let _ = writeln!(file, "{text}");
        }
    }

    /// Panics are put here too: nobody reads what a shim prints.
    pub fn capture_panics(&self) {
        let log = self.clone();
        std::panic::set_hook(Box::new(move |panic| log.line(panic)));
    }
}
