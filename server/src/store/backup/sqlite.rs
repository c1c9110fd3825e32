//! Snapshots of SQLite: a copy of the database as one file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, query, query_scalar, raw_sql};

use super::{SnapshotContents, SnapshotError, restored};
use crate::domain::restore_note::RestoreNote;
use crate::store::connect::Backend;
use crate::store::{StoreError, migrations};

/// How long the copy waits for SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A copy of the database. Its file has no name any more.
pub(super) struct SqliteSnapshot {
    pub(super) contents: SnapshotContents,
    pub(super) file: File,
}

impl SqliteSnapshot {
    pub(super) async fn take(url: &str, scratch: &Path) -> Result<Self, SnapshotError> {
        if !database_file(url)?.exists() {
            return Err(SnapshotError::NoDatabase);
        }
        remove(scratch)?;
        let taken = Self::copy(url, scratch).await;
        // Without a name it is gone when the process ends, however it ends.
        remove(scratch)?;
        taken
    }

    async fn copy(url: &str, scratch: &Path) -> Result<Self, SnapshotError> {
        let options = options(url)?.create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let name = scratch.to_str().ok_or(io::ErrorKind::InvalidFilename);
        let name = name.map_err(io::Error::from)?;
        query("VACUUM INTO ?").bind(name).execute(&mut connection).await?;
        connection.close().await?;
        let options = SqliteConnectOptions::new().filename(scratch).read_only(true);
        let mut copy = SqliteConnection::connect_with(&options).await?;
        let contents = SnapshotContents {
            schema: schema(&mut copy).await?,
            tables: Vec::new(),
            master_key_check: query_scalar(
                "SELECT value FROM settings WHERE name = 'master_key_check'",
            )
            .fetch_optional(&mut copy)
            .await?,
        };
        copy.close().await?;
        Ok(Self { contents, file: File::open(scratch)? })
    }
}

/// Checks a database that was read from a backup, and marks it as restored. The file is durable when this
/// returns.
///
/// # Errors
/// [`SnapshotError`]
pub async fn finish_file(
    file: &Path,
    expected: &[String],
    note: &RestoreNote,
) -> Result<(), SnapshotError> {
    migrations::statements(expected, "blob")?;
    let options = SqliteConnectOptions::new().filename(file).pragma("trusted_schema", "OFF");
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let checked: String = query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await?;
    if checked != "ok" {
        return Err(SnapshotError::Invalid("its pages do not fit together"));
    }
    // They would run as part of the server's own statements.
    let programs: i64 =
        query_scalar("SELECT COUNT(*) FROM sqlite_schema WHERE type NOT IN ('table', 'index')")
            .fetch_one(&mut connection)
            .await?;
    if programs > 0 {
        return Err(SnapshotError::Invalid("it has views or triggers"));
    }
    if schema(&mut connection).await? != expected {
        return Err(SnapshotError::Invalid("its schema is not the one that the backup names"));
    }
    for statement in restored::statements(Backend::Sqlite, note) {
        raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(File::open(file)?.sync_all()?)
}

/// The file of a SQLite database.
///
/// # Errors
/// [`StoreError::Url`]
pub fn database_file(url: &str) -> Result<PathBuf, StoreError> {
    Ok(options(url)?.get_filename().to_owned())
}

fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Url(error.to_string()))
}

async fn schema(connection: &mut SqliteConnection) -> Result<Vec<String>, SnapshotError> {
    let steps = query_scalar("SELECT version FROM seaql_migrations ORDER BY version");
    Ok(steps.fetch_all(connection).await?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
