//! The archives of packages: files on the server's disk, named by the ids of their packages.
//!
//! A file has its name only once it is complete and durable. It is written under another name before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muster_protocol::package::MAX_ARCHIVE_BYTES;
use ring::digest::{Context, SHA256};
use uuid::Uuid;

use super::release_files::free_bytes;
use crate::domain::ids::PackageId;

/// No upload starts or continues with fewer free bytes on the disk.
const RESERVED_BYTES: u64 = 64 * 1024 * 1024;
/// Prefix of the names of unfinished uploads.
const UNFINISHED: &str = ".upload-";

/// An archive could not be received or stored.
#[derive(Debug, thiserror::Error)]
pub enum PackageFileError {
    #[error("the archive has more than 256 MiB")]
    TooLarge,
    #[error("the server's disk has too little space")]
    NoSpace,
    #[error("failed to {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl PackageFileError {
    fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// The archives in a folder.
#[derive(Debug)]
pub struct PackageFiles {
    folder: PathBuf,
}

/// An archive that is being received. Dropping it before the end leaves no file.
pub struct IncomingArchive {
    file: File,
    temporary: PathBuf,
    sum: Context,
    bytes: u64,
    is_stored: bool,
}

impl PackageFiles {
    /// Archives in `folder`. Deletes unfinished uploads of an earlier server.
    pub fn new(folder: PathBuf) -> Self {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // A leftover is harmless, and the next start tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
        Self { folder }
    }

    /// The path of an archive.
    pub fn path(&self, id: PackageId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// The packages that have an archive here.
    pub fn ids(&self) -> Vec<PackageId> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Uuid::parse_str(&name).ok().map(PackageId)).collect()
    }

    /// Deletes an archive, if it is there. Blocks.
    ///
    /// # Errors
    /// [`PackageFileError::File`]
    pub fn remove(&self, id: PackageId) -> Result<(), PackageFileError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PackageFileError::of("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Starts to receive an archive. Blocks.
    ///
    /// # Errors
    /// [`PackageFileError`]
    pub fn receive(&self) -> Result<IncomingArchive, PackageFileError> {
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(PackageFileError::of("create", folder))?;
        check_space(folder, 0)?;
        let temporary = folder.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&temporary).map_err(PackageFileError::of("create", &temporary))?;
        Ok(IncomingArchive {
            file,
            temporary,
            sum: Context::new(&SHA256),
            bytes: 0,
            is_stored: false,
        })
    }
}

impl IncomingArchive {
    /// Writes more of it. Blocks.
    ///
    /// # Errors
    /// [`PackageFileError`]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PackageFileError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_ARCHIVE_BYTES {
            return Err(PackageFileError::TooLarge);
        }
        check_space(&self.temporary, bytes.len() as u64)?;
        self.sum.update(bytes);
        self.file.write_all(bytes).map_err(PackageFileError::of("write", &self.temporary))
    }

    /// Its size so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hex SHA-256 of what was received.
    pub fn sha256(&self) -> String {
        HEXLOWER.encode(self.sum.clone().finish().as_ref())
    }

    /// The received bytes, from their start.
    pub fn reader(&mut self) -> Result<&mut File, PackageFileError> {
        use std::io::Seek as _;
        self.file.rewind().map_err(PackageFileError::of("read", &self.temporary))?;
        Ok(&mut self.file)
    }

    /// Durably moves the archive to its name. Blocks.
    ///
    /// # Errors
    /// [`PackageFileError`]
    pub fn store(mut self, files: &PackageFiles, id: PackageId) -> Result<(), PackageFileError> {
        self.file.sync_all().map_err(PackageFileError::of("sync", &self.temporary))?;
        let path = files.path(id);
        fs::rename(&self.temporary, &path).map_err(PackageFileError::of("create", &path))?;
        self.is_stored = true;
        let synced = File::open(&files.folder).and_then(|folder| folder.sync_all());
        synced.map_err(PackageFileError::of("sync", &files.folder))
    }
}

impl Drop for IncomingArchive {
    fn drop(&mut self) {
        if !self.is_stored {
            // The next start deletes what remains.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn check_space(path: &Path, bytes: u64) -> Result<(), PackageFileError> {
    // If the free space is unknown, a full disk fails the write.
    match free_bytes(path) {
        Some(free) if free < RESERVED_BYTES + bytes => Err(PackageFileError::NoSpace),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::PackageId;

    #[test]
    fn only_a_stored_archive_has_a_name_and_a_dropped_one_leaves_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let files = PackageFiles::new(folder.path().join("packages"));
        let mut dropped = files.receive().expect("space");
        dropped.write(b"half").expect("written");
        drop(dropped);
        let mut whole = files.receive().expect("space");
        whole.write(b"ab").expect("written");
        whole.write(b"c").expect("written");
        assert_eq!(whole.bytes(), 3);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(whole.sha256(), abc);
        let id = PackageId::new();
        whole.store(&files, id).expect("stored");
        assert_eq!(files.ids(), [id]);
        assert_eq!(fs::read(files.path(id)).expect("read"), b"abc");
        files.remove(id).expect("removed");
        files.remove(id).expect("is not there any more");
        assert_eq!(fs::read_dir(folder.path().join("packages")).expect("listed").count(), 0);
    }
}
