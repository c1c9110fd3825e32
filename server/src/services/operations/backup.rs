//! Writes a backup while a server runs: the database, output, releases, and the master key if it is asked
//! for.
//!
//! The order matters. First the files of output are held, so that none is removed. Then the snapshot of
//! the database is taken, and then the files are read: every file that the rows of the snapshot name is
//! still there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::master_key::{KeyLocations, next_file};
use crate::adapters::backup_file::{
    BackupFileError, BackupHeader, BackupTotals, BackupWriter, FORMAT, KEY_NAMES, NoSink, read,
};
use crate::adapters::data_directory;
use crate::domain::secret_box;
use crate::domain::time::Clock;
use crate::store::Backend;
use crate::store::backup::{Snapshot, SnapshotError, SnapshotSink, TableColumns};
use crate::store::blobs::hold_files;

/// A server's data: what is saved, and what is restored.
#[derive(Debug, Clone, Copy)]
pub struct DataLocation<'a> {
    pub data_dir: &'a Path,
    pub database_url: &'a str,
    pub password: Option<&'a str>,
}

/// What a backup contains, for a person.
#[derive(Debug)]
pub struct BackupContents {
    pub header: BackupHeader<TableColumns>,
    pub totals: BackupTotals,
}

/// A backup could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("another backup, or a rotation of the master key, is running; wait for its end")]
    Busy,
    #[error("failed to use the data directory {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    File(#[from] BackupFileError),
    #[error("failed to add a file to the backup")]
    Add(#[source] io::Error),
    #[error("failed to find the master key, which `--with-keys` adds to the backup")]
    NoKey,
}

/// Writes a backup. Everything that the server has promised before is in it. With `keys`, the master key
/// is part of it.
///
/// # Errors
/// [`BackupError`]; there is no file then.
pub async fn back_up(
    path: &Path,
    location: DataLocation<'_>,
    keys: Option<KeyLocations>,
    clock: &Clock,
) -> Result<BackupContents, BackupError> {
    // Checked first, because the snapshot may take long.
    if path.exists() {
        return Err(BackupFileError::Exists(path.to_owned()).into());
    }
    let output = location.data_dir.join("output");
    let held =
        hold_files(&output).map_err(|source| BackupError::Folder { path: output, source })?;
    let Some(_held) = held else { return Err(BackupError::Busy) };
    let created_at = clock.now();
    let scratch = path.with_added_extension("database");
    let snapshot = Snapshot::take(location.database_url, location.password, &scratch).await?;
    let contents = snapshot.contents();
    let is_postgres = !contents.tables.is_empty();
    let header = BackupHeader {
        format: FORMAT,
        created_at: created_at.0,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        database: database_name(is_postgres).to_owned(),
        schema: contents.schema.clone(),
        tables: contents.tables.clone(),
        master_key_id: contents.master_key_check.as_deref().and_then(secret_box::key_id_of),
        has_keys: keys.is_some(),
    };
    let mut writer = BackupWriter::create(path, &header)?;
    snapshot.write_to(&mut ToArchive(&mut writer)).await?;
    let mut add = |name: &str, file: File| ToArchive(&mut writer).write_file(name, &file);
    data_directory::each_file(location.data_dir, &mut add).map_err(BackupError::Add)?;
    if let Some(keys) = keys {
        add_keys(&mut writer, keys)?;
    }
    let totals = writer.finish()?;
    Ok(BackupContents { header, totals })
}

/// Reads a whole backup and checks it against its manifest.
///
/// # Errors
/// [`BackupFileError`]
pub fn verify(path: &Path) -> Result<BackupContents, BackupFileError> {
    let (header, totals) = read(path, u64::MAX, &mut NoSink)?;
    Ok(BackupContents { header, totals })
}

/// The name of a kind of database in the header.
pub(super) fn database_name(is_postgres: bool) -> &'static str {
    if is_postgres { "postgres" } else { "sqlite" }
}

/// True if this URL names a database of PostgreSQL.
pub(super) fn is_postgres(url: &str) -> Result<bool, SnapshotError> {
    Ok(Backend::of(url)? == Backend::Postgres)
}

fn add_keys(writer: &mut BackupWriter, keys: KeyLocations) -> Result<(), BackupError> {
    let mut add = |name: &str, text: &[u8]| {
        let name = format!("keys/{name}");
        writer.add(&name, text.len() as u64, &mut { text }).map_err(BackupError::Add)
    };
    if let Some(text) = keys.text {
        return add(KEY_NAMES[0], text.as_bytes());
    }
    let file = keys.file.unwrap_or(keys.own_file);
    let key = read_key(&file)?.ok_or(BackupError::NoKey)?;
    add(KEY_NAMES[0], &key)?;
    // A rotation that did not end needs both.
    match read_key(&next_file(&file))? {
        Some(next) => add(KEY_NAMES[1], &next),
        None => Ok(()),
    }
}

fn read_key(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, BackupError> {
    match fs::read(path) {
        Ok(key) => Ok(Some(Zeroizing::new(key))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::Add(error)),
    }
}

/// Puts the pieces of a snapshot into the archive.
struct ToArchive<'a>(&'a mut BackupWriter);

impl SnapshotSink for ToArchive<'_> {
    fn write(&mut self, name: &str, mut bytes: &[u8]) -> io::Result<()> {
        self.0.add(name, bytes.len() as u64, &mut bytes)
    }

    fn write_file(&mut self, name: &str, mut file: &File) -> io::Result<()> {
        // Output that grows meanwhile is newer than the snapshot.
        let bytes = file.metadata()?.len();
        self.0.add(name, bytes, &mut file)
    }
}
