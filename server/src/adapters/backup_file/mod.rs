//! Backup files: a tar archive, compressed with zstd, that any `tar` reads.
//!
//! ```text
//! backup.json                    first: what the archive contains
//! database.sqlite                SQLite: the database
//! tables/<table>/<number>        PostgreSQL: rows as COPY writes them
//! files/<path>                   files of the data directory
//! keys/<name>                    the master key, if it was asked for
//! manifest.jsonl                 last: name, size and SHA-256 of everything before, a line each
//! ```
//! An archive is complete if it ends with its manifest. Everything that is read from one is bounded, and
//! names outside of this layout are refused.

mod name;
mod reader;
mod ustar;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::name::{EntryName, KEY_NAMES};
pub use self::reader::{EntrySink, NoSink, read};
pub use self::writer::BackupWriter;

/// The version of the layout.
pub const FORMAT: u32 = 1;
/// Largest `backup.json`.
const MAX_BACKUP_HEADER_BYTES: u64 = 1_048_576;
/// Most entries of an archive; the reader keeps 32 bytes of each.
const MAX_BACKUP_ENTRIES: u64 = 4_000_000;
/// Largest key file of an archive.
const MAX_KEY_FILE_BYTES: u64 = 1_024;
/// Longest line of the manifest.
const MAX_MANIFEST_LINE_BYTES: u64 = 1_024;

const HEADER: &str = "backup.json";
const MANIFEST: &str = "manifest.jsonl";

/// The first entry: what the archive contains. `T` describes a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader<T> {
    pub format: u32,
    /// Milliseconds since the Unix epoch; everything that was committed before is in the backup.
    pub created_at: i64,
    pub server_version: String,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// The steps of the schema.
    pub schema: Vec<String>,
    /// PostgreSQL only.
    pub tables: Vec<T>,
    /// Which master key opens the secrets; `None` if nothing was ever sealed.
    pub master_key_id: Option<String>,
    pub has_keys: bool,
}

/// A line of the manifest.
#[derive(Debug, Serialize, Deserialize)]
struct ManifestLine {
    name: String,
    bytes: u64,
    sha256: String,
}

/// What was written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupTotals {
    pub entries: u64,
    /// Of the contents, without compression.
    pub bytes: u64,
}

/// A backup file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupFileError {
    #[error("{} exists; choose another name", .0.display())]
    Exists(PathBuf),
    #[error("failed to write the backup {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("failed to read the backup {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    #[error("the backup is damaged: it ends before its manifest")]
    Truncated,
    #[error("the backup has the format {0}; this version reads the format {FORMAT}")]
    Format(u32),
    #[error("the backup is too large: {0}")]
    TooLarge(&'static str),
    /// Of the receiver of the contents.
    #[error(transparent)]
    Sink(Box<dyn std::error::Error + Send + Sync>),
}

impl BackupFileError {
    /// An error of a sink.
    pub fn sink(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Sink(Box::new(error))
    }
}
