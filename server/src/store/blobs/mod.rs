//! Output in files: a local directory of blobs. Each is named by ids only.
//!
//! There are two kinds. A *live* file grows while an execution runs, and contains its records as
//! they were received. A *compacted* file is written once ([`BlockWriter`]) and only read
//! afterwards ([`BlockReader`]). Rows of the database decide which bytes of a file are valid: this
//! module knows no tables, tenants or rules. All functions block; callers run them outside the
//! runtime's threads.
//!
//! ```text
//! <folder>/live/<xx>/<yy>/<command id>
//! <folder>/compacted/<xx>/<yy>/<command id>.<revision>
//! ```
//! `xx` and `yy` are the last two bytes of the id, which are random, so every folder stays small.

mod block_reader;
mod block_writer;
mod error;
mod format;
mod hold;
mod sweep;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use nix::sys::statvfs::statvfs;

pub use self::block_reader::{BlockReader, OutputBlock};
pub use self::block_writer::{BlockWriter, Written};
pub use self::error::BlobError;
pub use self::hold::{hold_files, permit_changes};
use crate::domain::ids::CommandId;

/// Free space that output never uses, so that the database can still store results and new commands
/// when there is no space for output.
pub const RESERVED_BYTES: u64 = 64 * 1024 * 1024;
/// Free space that SQLite needs to store any request. With less the server is not ready.
const DATABASE_BYTES: u64 = 4 * 1024 * 1024;
/// Extension of a file that is not complete yet.
const UNFINISHED: &str = "new";

/// The name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobName {
    /// Records of an execution that runs, or that has not been compacted yet.
    Live(CommandId),
    /// The whole output of an execution. A later revision replaces an earlier one.
    Compacted(CommandId, i64),
}

impl BlobName {
    /// The execution that the output belongs to.
    pub fn command_id(self) -> CommandId {
        match self {
            Self::Live(id) | Self::Compacted(id, _) => id,
        }
    }

    fn path_in(self, folder: &Path) -> PathBuf {
        let id = self.command_id().0;
        let [.., one, two] = id.into_bytes();
        let (kind, name) = match self {
            Self::Live(_) => ("live", id.simple().to_string()),
            Self::Compacted(_, revision) => ("compacted", format!("{}.{revision}", id.simple())),
        };
        folder.join(kind).join(format!("{two:02x}")).join(format!("{one:02x}")).join(name)
    }
}

/// The directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: Arc<Path>,
}

impl Blobs {
    /// Opens the directory, and creates it if it is missing.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(BlobError::io("make the folder for output"))?;
        // Here, so that it belongs to the server's user, also if root makes the backups.
        hold::lock_file(folder).map_err(BlobError::io("make the folder for output"))?;
        Ok(Self { folder: folder.into() })
    }

    /// False if the disk has no space left for SQLite's database, which is beside the folder.
    pub fn has_space_for_database(&self) -> bool {
        self.free_bytes().is_none_or(|free| free >= DATABASE_BYTES)
    }

    /// Free space of the disk. `None` if it is unknown; then the write itself fails on a full disk.
    pub fn free_bytes(&self) -> Option<u64> {
        let disk = statvfs(&*self.folder).ok()?;
        Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Size of the disk. `None` if it is unknown.
    pub fn disk_bytes(&self) -> Option<u64> {
        let disk = statvfs(&*self.folder).ok()?;
        Some(disk.blocks().saturating_mul(disk.fragment_size()))
    }

    /// Fails if less space is free than output must leave.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`].
    pub fn check_space(&self) -> Result<(), BlobError> {
        let has_space = self.free_bytes().is_none_or(|free| free >= RESERVED_BYTES);
        if has_space { Ok(()) } else { Err(BlobError::NoSpace) }
    }

    /// Writes consecutive pieces from a position on, and returns when they are durable. Bytes that
    /// were there before were never committed.
    ///
    /// # Errors
    /// [`BlobError`]; the content after the position is then unknown.
    pub fn append(&self, name: BlobName, position: u64, pieces: &[Bytes]) -> Result<(), BlobError> {
        let path = name.path_in(&self.folder);
        let open =
            || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folders(&path)?;
                open()
            }
            opened => opened,
        }
        .map_err(BlobError::io("open a file of output"))?;
        let mut end = position;
        for piece in pieces {
            file.write_all_at(piece, end).map_err(BlobError::io("write output"))?;
            end += piece.len() as u64;
        }
        file.sync_data().map_err(BlobError::io("write output"))?;
        if position == 0 {
            sync_folder_of(&path).map_err(BlobError::io("write output"))?;
        }
        Ok(())
    }

    /// Reads exactly this range of a file.
    ///
    /// # Errors
    /// [`BlobError::Missing`] if there is no such file; [`BlobError::Damaged`] if it is shorter.
    pub fn read(&self, name: BlobName, position: u64, length: usize) -> Result<Vec<u8>, BlobError> {
        let mut bytes = vec![0; length];
        self.open_file(name)?.read_exact_at(&mut bytes, position).map_err(BlobError::reading)?;
        Ok(bytes)
    }

    /// Opens a compacted file.
    ///
    /// # Errors
    /// As [`Blobs::read`].
    pub fn open_blocks(&self, name: BlobName) -> Result<BlockReader, BlobError> {
        BlockReader::open(self.open_file(name)?, name.command_id())
    }

    fn open_file(&self, name: BlobName) -> Result<File, BlobError> {
        File::open(name.path_in(&self.folder)).map_err(BlobError::reading)
    }

    /// Starts a new file. It exists under its name once it is [finished](NewBlob::finish);
    /// otherwise it leaves nothing.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn create(&self, name: BlobName) -> Result<NewBlob, BlobError> {
        let path = name.path_in(&self.folder);
        self.make_folders(&path)?;
        let unfinished = path.with_added_extension(UNFINISHED);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(BlobError::io("open a file of output"))?;
        Ok(NewBlob { file, unfinished, path, is_finished: false })
    }

    /// Removes a file that no row references. A missing file is no error. While a backup is made, the file
    /// stays, because the backup's rows may reference it; a sweep removes it later.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn delete(&self, name: BlobName) -> Result<(), BlobError> {
        let permit = permit_changes(&self.folder);
        let Some(_permit) = permit.map_err(BlobError::io("remove a file of output"))? else {
            return Ok(());
        };
        remove(&name.path_in(&self.folder)).map_err(BlobError::io("remove a file of output"))
    }

    /// Creates the folders of a file, durably.
    fn make_folders(&self, path: &Path) -> Result<(), BlobError> {
        let make = |folder: &Path| match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => sync_folder_of(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        let above: Vec<&Path> = path.ancestors().skip(1).take(3).collect();
        above
            .into_iter()
            .rev()
            .try_for_each(make)
            .map_err(BlobError::io("make the folder for output"))
    }
}

/// A file that is being written. Dropping it before the end removes it.
#[derive(Debug)]
pub struct NewBlob {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    is_finished: bool,
}

impl NewBlob {
    /// Makes the file durable under its name.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn finish(mut self) -> Result<(), BlobError> {
        let finish = || {
            self.file.sync_all()?;
            std::fs::rename(&self.unfinished, &self.path)?;
            sync_folder_of(&self.path)
        };
        finish().map_err(BlobError::io("finish a file of output"))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.is_finished {
            // If this fails, a sweep removes it.
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the name of a file, or of a folder, durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
