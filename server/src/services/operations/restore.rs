//! Restores a backup into an empty data directory and an empty database.
//!
//! Everything is written to a folder of its own first. While that exists, no server starts, so a restore
//! that is interrupted leaves nothing that looks like a server's data; it can be repeated.

use std::io::Read;
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::backup::{BackupContents, DataLocation, database_name, is_postgres};
use crate::adapters::backup_file::{
    BackupFileError, BackupHeader, EntryName, EntrySink, NoSink, read,
};
use crate::adapters::data_directory;
use crate::domain::restore_note::RestoreNote;
use crate::domain::time::{Clock, Timestamp};
use crate::store::backup::{
    DATABASE_FILE, PostgresLoader, SnapshotError, TableColumns, database_file, finish_file,
    hold_directory, restore_folder,
};

/// A backup could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    File(#[from] BackupFileError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the data directory is not empty: it contains {0}; restore into an empty one")]
    NotEmpty(String),
    #[error("the database file {} exists; restore into an empty data directory", .0.display())]
    DatabaseExists(PathBuf),
    #[error(
        "the backup is of {backup}, and the setting `database_url` names {configured}; use a database of the same kind"
    )]
    OtherDatabase { backup: String, configured: &'static str },
    #[error("the data directory has another {0} than the backup; move it away")]
    OtherKey(&'static str),
    #[error("failed to use the data directory {}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
}

/// Checks a backup, then restores all of it.
///
/// # Errors
/// [`RestoreError`]; unless the backup was damaged or the target not empty, no server starts on what was
/// restored so far.
pub async fn restore(
    path: &Path,
    location: DataLocation<'_>,
    clock: &Clock,
) -> Result<BackupContents, RestoreError> {
    let data_dir = location.data_dir;
    let failed = |source| RestoreError::Folder { path: data_dir.to_owned(), source };
    hold_directory(data_dir).map_err(SnapshotError::from)?;
    // A hostile archive can't fill the disk.
    let most = data_directory::free_bytes(data_dir);
    let (header, _) = read::<TableColumns>(path, most, &mut NoSink)?;
    let is_postgres = is_postgres(location.database_url)?;
    let configured = database_name(is_postgres);
    if header.database != configured {
        return Err(RestoreError::OtherDatabase { backup: header.database, configured });
    }
    let database = if is_postgres { None } else { Some(empty_file(location.database_url)?) };
    let filled = restore_folder(data_dir);
    if let Some(name) = data_directory::prepare(data_dir, &filled).map_err(failed)? {
        return Err(RestoreError::NotEmpty(name));
    }
    let loader = match is_postgres {
        true => {
            let BackupHeader { schema, tables, .. } = &header;
            let (url, password) = (location.database_url, location.password);
            Some(PostgresLoader::start(url, password, schema, tables.clone()).await?)
        }
        false => None,
    };
    let mut target = RestoreTarget { filled: &filled, loader };
    // Checked again, because the file may have been changed meanwhile.
    let (header, totals) = read(path, most, &mut target)?;
    let note = RestoreNote {
        restored_at: clock.now(),
        user: data_directory::own_user(),
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        backup_created_at: Timestamp(header.created_at),
        backup_version: header.server_version.clone(),
    };
    let loader = target.loader.take();
    if database.is_some() {
        finish_file(&filled.join(DATABASE_FILE), &header.schema, &note).await?;
    }
    if let Some(key) = data_directory::place(data_dir, &filled).map_err(failed)? {
        return Err(RestoreError::OtherKey(key));
    }
    if let Some(loader) = loader {
        loader.finish(&header.schema, &note).await?;
    }
    if let Some(database) = &database {
        data_directory::move_file(&filled.join(DATABASE_FILE), database).map_err(failed)?;
    }
    data_directory::end(data_dir, &filled).map_err(failed)?;
    Ok(BackupContents { header, totals })
}

/// The database file of this URL, which must not exist.
fn empty_file(url: &str) -> Result<PathBuf, RestoreError> {
    let database = database_file(url).map_err(SnapshotError::from)?;
    for file in [database.clone(), wal_of(&database)] {
        if file.exists() {
            return Err(RestoreError::DatabaseExists(file));
        }
    }
    Ok(database)
}

/// SQLite's log, which would be played into the restored database.
fn wal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Where the contents of a backup go.
struct RestoreTarget<'a> {
    filled: &'a Path,
    loader: Option<PostgresLoader>,
}

impl EntrySink<TableColumns> for RestoreTarget<'_> {
    fn take(
        &mut self,
        _: &BackupHeader<TableColumns>,
        name: &EntryName,
        content: &mut (dyn Read + Send),
    ) -> Result<(), BackupFileError> {
        let place = match (name, &mut self.loader) {
            (EntryName::Table(table), Some(loader)) => {
                let load = loader.load(table, content);
                return block_in_place(|| Handle::current().block_on(load))
                    .map_err(BackupFileError::sink);
            }
            (EntryName::Database, None) => PathBuf::from(DATABASE_FILE),
            (EntryName::File(path), _) => path.clone(),
            (EntryName::Key(key), _) => PathBuf::from(key),
            _ => {
                let error = SnapshotError::Invalid("it has entries of another kind of database");
                return Err(BackupFileError::sink(error));
            }
        };
        data_directory::store(self.filled, &place, content).map_err(BackupFileError::sink)
    }
}
