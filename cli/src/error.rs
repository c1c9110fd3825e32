//! Why a command failed, and the exit code for it.
//!
//! Knows no HTTP library: [`problem`] holds a problem document that was already read.

pub mod problem;

use std::io;
use std::path::{Path, PathBuf};

use problem::Problem;

/// Interrupted from the keyboard: 128 + SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;
/// The reader of standard output closed it: 128 + SIGPIPE.
const EXIT_PIPE_CLOSED: u8 = 141;

/// Every way a command can fail.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// The server refused the request.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The server did not answer, or its answer was cut off.
    #[error("failed to reach {server}: {cause}")]
    Connection {
        /// The base address, and the proxy if there is one.
        server: String,
        /// The chain of causes in one line.
        cause: String,
    },
    /// This version does not understand the answer.
    #[error("unexpected answer from the server: {0}")]
    Answer(String),
    /// The command ran and did not succeed.
    #[error("{0}")]
    Unsuccessful(String),
    /// A file could not be used.
    #[error("failed to {action} {path}")]
    File {
        /// A verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Standard output or the terminal failed.
    #[error("failed to write the output")]
    Terminal(#[from] io::Error),
    /// Interrupted from the keyboard.
    #[error("{0}")]
    Interrupted(String),
}

impl CliError {
    /// Turns an I/O error into a [`CliError::File`]: `.map_err(CliError::file("read", path))`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// 2 for usage, 3 for the connection, 130 and 141 as shells have them, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Connection { .. } => 3,
            Self::Interrupted(_) => EXIT_INTERRUPTED,
            Self::Terminal(_) if self.is_closed_pipe() => EXIT_PIPE_CLOSED,
            _ => 1,
        }
    }

    /// True if the reader of standard output closed it, which needs no message.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Terminal(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// True if the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }
}
