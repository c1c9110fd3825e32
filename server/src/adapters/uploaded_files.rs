//! Files that people upload for hosts: on the server's disk, named by their ids.
//!
//! A file has its name only once it is complete, durable and has the right hash. Until then it has another
//! one, and its length says where the upload continues, also after a restart of the server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};
use uuid::Uuid;

use super::release_files::free_bytes;
use crate::domain::ids::FileId;

/// No upload starts or continues with fewer free bytes on the disk.
const RESERVED_BYTES: u64 = 64 * 1024 * 1024;
/// Ending of the names of incomplete files.
const PARTIAL: &str = ".part";
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file could not be received or stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadedFileError {
    #[error("the file has more bytes than its upload named")]
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

impl UploadedFileError {
    fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// The files in a folder.
#[derive(Debug)]
pub struct UploadedFiles {
    folder: PathBuf,
}

/// A file that is being continued.
#[derive(Debug)]
pub struct OpenUpload {
    file: File,
    path: PathBuf,
    length_bytes: u64,
    most_bytes: u64,
}

impl UploadedFiles {
    /// Files in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The path of a complete file.
    pub fn path(&self, id: FileId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn partial(&self, id: FileId) -> PathBuf {
        self.folder.join(format!("{id}{PARTIAL}"))
    }

    /// The bytes of an incomplete file that are there. Blocks.
    pub fn received_bytes(&self, id: FileId) -> u64 {
        fs::metadata(self.partial(id)).map_or(0, |metadata| metadata.len())
    }

    /// Opens an incomplete file, to continue it at its end. Blocks.
    ///
    /// # Errors
    /// [`UploadedFileError`]
    pub fn open(&self, id: FileId, most_bytes: u64) -> Result<OpenUpload, UploadedFileError> {
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(UploadedFileError::of("create", folder))?;
        let path = self.partial(id);
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = options.open(&path).map_err(UploadedFileError::of("create", &path))?;
        let metadata = file.metadata().map_err(UploadedFileError::of("read", &path))?;
        Ok(OpenUpload { file, path, length_bytes: metadata.len(), most_bytes })
    }

    /// Hex SHA-256 of an incomplete file. Blocks.
    ///
    /// # Errors
    /// [`UploadedFileError::File`]
    pub fn sha256(&self, id: FileId) -> Result<String, UploadedFileError> {
        let path = self.partial(id);
        let read = || {
            let mut file = File::open(&path)?;
            let mut context = Context::new(&SHA256);
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(HEXLOWER.encode(context.finish().as_ref())),
                    count => context.update(&buffer[..count]),
                }
            }
        };
        read().map_err(UploadedFileError::of("read", &path))
    }

    /// Durably gives a complete file its name. Blocks.
    ///
    /// # Errors
    /// [`UploadedFileError::File`]
    pub fn complete(&self, id: FileId) -> Result<(), UploadedFileError> {
        let (partial, path) = (self.partial(id), self.path(id));
        let synced = File::open(&partial).and_then(|file| file.sync_all());
        synced.map_err(UploadedFileError::of("sync", &partial))?;
        fs::rename(&partial, &path).map_err(UploadedFileError::of("create", &path))?;
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(UploadedFileError::of("sync", &self.folder))
    }

    /// The files that are here, complete or not. Blocks.
    pub fn ids(&self) -> Vec<FileId> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let id_of = |name: String| Uuid::parse_str(name.trim_end_matches(PARTIAL)).ok();
        names.filter_map(id_of).map(FileId).collect()
    }

    /// Deletes a file, if it is there. Blocks.
    ///
    /// # Errors
    /// [`UploadedFileError::File`]
    pub fn remove(&self, id: FileId) -> Result<(), UploadedFileError> {
        for path in [self.path(id), self.partial(id)] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(UploadedFileError::of("remove", &path)(error));
            }
        }
        Ok(())
    }
}

impl OpenUpload {
    /// Bytes that are there.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Adds bytes at the end. Blocks.
    ///
    /// # Errors
    /// [`UploadedFileError`]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadedFileError> {
        let length_bytes = self.length_bytes + bytes.len() as u64;
        if length_bytes > self.most_bytes {
            return Err(UploadedFileError::TooLarge);
        }
        // If the free space is unknown, a full disk fails the write.
        if free_bytes(&self.path).is_some_and(|free| free < RESERVED_BYTES + bytes.len() as u64) {
            return Err(UploadedFileError::NoSpace);
        }
        self.file.write_all(bytes).map_err(UploadedFileError::of("write", &self.path))?;
        self.length_bytes = length_bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_continues_at_its_end_and_has_its_name_once_it_is_complete() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let files = UploadedFiles::new(folder.path().join("files"));
        let id = FileId::new();
        let mut first = files.open(id, 3).expect("opened");
        first.write(b"ab").expect("written");
        drop(first);
        assert_eq!(files.received_bytes(id), 2);
        assert!(!files.path(id).exists());
        let mut second = files.open(id, 3).expect("opened");
        assert_eq!(second.length_bytes(), 2);
        assert!(matches!(second.write(b"cd"), Err(UploadedFileError::TooLarge)));
        second.write(b"c").expect("written");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(files.sha256(id).expect("read"), abc);
        files.complete(id).expect("stored");
        assert_eq!(fs::read(files.path(id)).expect("there"), b"abc");
        assert_eq!(files.ids(), [id]);
        files.remove(id).expect("removed");
        assert_eq!(files.ids(), []);
    }
}
