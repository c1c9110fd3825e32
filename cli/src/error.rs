//! Why a command failed, and the code that the process exits with for it.
//!
//! Knows no HTTP library: a problem document is already read here.

use std::io;
use std::path::PathBuf;

/// The process was told to stop from the keyboard: 128 + SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;
/// The reader of our output went away: 128 + SIGPIPE.
const EXIT_PIPE_CLOSED: u8 = 141;

/// Every way a command can fail.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// What was typed can't be meant.
    #[error("{0}")]
    Usage(String),
    /// The server answered with a problem document; this is its sentence.
    #[error("{sentence}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code of the problem, if it had one.
        code: Option<String>,
        /// What to do about it.
        sentence: String,
        /// Of an expression: the character, counted from 1, at which it goes wrong.
        column: Option<usize>,
        /// Seconds to wait before the same request has a chance.
        retry_after_s: Option<u64>,
    },
    /// No answer, or not a whole one.
    #[error("failed to reach {server}: {cause}")]
    Connection {
        /// The base address.
        server: String,
        /// The chain of causes in one line.
        cause: String,
    },
    /// An answer that this version does not understand.
    #[error("the server's answer makes no sense here: {0}")]
    Answer(String),
    /// The command was carried out and did not succeed.
    #[error("{0}")]
    Unsuccessful(String),
    /// The context could not be read or kept.
    #[error("failed to {action} {path}: {source}")]
    File {
        /// A verb.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output or the terminal failed.
    #[error("failed to write the answer: {0}")]
    Terminal(#[from] io::Error),
    /// Interrupted from the keyboard.
    #[error("{0}")]
    Interrupted(String),
}

impl CliError {
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

    /// True if nobody reads our output any more, which is nothing to complain about.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Terminal(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// True if the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }
}
