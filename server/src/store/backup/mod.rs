//! The whole database in one consistent snapshot, read while a server uses it, and loaded into an empty
//! database.
//!
//! SQLite: one file, made by `VACUUM INTO`. PostgreSQL: the rows of each table as `COPY` writes them, read
//! in one `REPEATABLE READ` transaction. Knows no archives: the caller stores the pieces.

mod postgres;
mod restored;
mod sqlite;

use std::fs::File;
use std::io;
use std::path::Path;

use sea_orm::sqlx;
use serde::{Deserialize, Serialize};

pub use self::postgres::PostgresLoader;
pub use self::sqlite::{database_file, finish_file};
pub use super::connect::restore_folder;
use super::{Backend, StoreError};

/// The name of the SQLite database in a backup.
pub const DATABASE_FILE: &str = "database.sqlite";

/// A table of PostgreSQL with its columns, in the order of their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumns {
    pub name: String,
    pub columns: Vec<String>,
}

/// What a snapshot contains, beside its rows.
#[derive(Debug, Clone, Default)]
pub struct SnapshotContents {
    /// The steps of the schema that the database has.
    pub schema: Vec<String>,
    /// PostgreSQL only.
    pub tables: Vec<TableColumns>,
    /// The sealed record that only the right master key opens.
    pub master_key_check: Option<Vec<u8>>,
}

/// Why a snapshot could not be read or loaded.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("failed to write or read the snapshot of the database")]
    File(#[from] io::Error),
    #[error("there is no database of Muster; check the settings `data_dir` and `database_url`")]
    NoDatabase,
    #[error("the database is not empty; create an empty one for the restore")]
    NotEmpty,
    #[error(
        "the backup has the schema {0}, which this version does not know; use the version that wrote the backup, or a newer one"
    )]
    UnknownSchema(String),
    #[error(
        "the database in the backup is damaged or was not written by `muster-server backup`: {0}"
    )]
    Invalid(&'static str),
}

/// Takes the pieces of a snapshot.
pub trait SnapshotSink {
    /// Stores a piece that is in memory.
    ///
    /// # Errors
    /// Of the storage.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Stores a file.
    ///
    /// # Errors
    /// Of the storage.
    fn write_file(&mut self, name: &str, file: &File) -> io::Result<()>;
}

/// A snapshot that was taken and not written yet.
pub struct Snapshot(SnapshotKind);

enum SnapshotKind {
    Sqlite(sqlite::SqliteSnapshot),
    Postgres(Box<postgres::PostgresSnapshot>),
}

impl Snapshot {
    /// Takes a snapshot. It contains everything that was committed before. For SQLite, a copy of the
    /// database exists as the file `scratch` until this returns, and takes space there until the snapshot
    /// is dropped.
    ///
    /// # Errors
    /// [`SnapshotError`]
    pub async fn take(
        url: &str,
        password: Option<&str>,
        scratch: &Path,
    ) -> Result<Self, SnapshotError> {
        Ok(Self(match Backend::of(url)? {
            Backend::Sqlite => {
                SnapshotKind::Sqlite(sqlite::SqliteSnapshot::take(url, scratch).await?)
            }
            Backend::Postgres => SnapshotKind::Postgres(Box::new(
                postgres::PostgresSnapshot::take(url, password).await?,
            )),
        }))
    }

    /// What it contains.
    pub fn contents(&self) -> &SnapshotContents {
        match &self.0 {
            SnapshotKind::Sqlite(snapshot) => &snapshot.contents,
            SnapshotKind::Postgres(snapshot) => &snapshot.contents,
        }
    }

    /// Writes all pieces.
    ///
    /// # Errors
    /// [`SnapshotError`]
    pub async fn write_to(self, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        match self.0 {
            SnapshotKind::Sqlite(snapshot) => Ok(sink.write_file(DATABASE_FILE, &snapshot.file)?),
            SnapshotKind::Postgres(snapshot) => snapshot.write_to(sink).await,
        }
    }
}

/// Locks the data directory, which may not exist yet, against servers until this process ends.
///
/// # Errors
/// [`StoreError::Locked`] if one does.
pub fn hold_directory(data_dir: &Path) -> Result<(), StoreError> {
    super::connect::lock_directory(data_dir)
}
