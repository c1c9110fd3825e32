//! The programs of releases: files on the server's disk.
//!
//! File names come from typed values only. A file has its name only once it is complete. It is
//! written under another name before.

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muster_protocol::release::{Platform, Program, ProgramFile, Version};
use nix::sys::statvfs::statvfs;
use ring::digest::{Context, SHA256};
use uuid::Uuid;

use super::file_sums::FileSums;

/// No upload starts or continues with fewer free bytes on the disk.
const RESERVED_BYTES: u64 = 64 * 1024 * 1024;
/// Prefix of the names of unfinished uploads.
const UNFINISHED: &str = ".upload-";

/// Failed to store a file of a release.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct ReleaseFileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl ReleaseFileError {
    fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// The programs in `<dir>/<version>/<platform>/<program>`.
#[derive(Debug)]
pub struct ReleaseFiles {
    folder: PathBuf,
    /// Checksums of the stored files.
    sums: FileSums,
    /// Bytes of the disk that stay free for others, above all for the database.
    reserved_bytes: u64,
}

/// A program that is being received. Dropping it before the end leaves no file.
pub struct IncomingProgram {
    file: File,
    temporary: PathBuf,
    place: PathBuf,
    sum: Context,
    left: u64,
    reserved_bytes: u64,
    expected: ProgramFile,
    is_done: bool,
}

/// A program that was received whole and is as the manifest says. Dropping it leaves no file.
pub struct VerifiedProgram(IncomingProgram);

/// A received program was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseStoreError {
    #[error("its size differs from the {0} bytes in the descriptor")]
    Size(u64),
    #[error("its SHA-256 differs from the descriptor")]
    Sum,
    #[error("the server's disk has too little space; free some and try again")]
    NoSpace,
    #[error("failed to write its file")]
    File(#[from] ReleaseFileError),
}

impl ReleaseFiles {
    /// Size of all files.
    ///
    /// # Errors
    /// [`ReleaseFileError`].
    pub fn stored_bytes(&self) -> Result<u64, ReleaseFileError> {
        size_of(&self.folder)
    }

    /// Files in `folder`. Deletes unfinished uploads of an earlier server.
    pub fn new(folder: PathBuf) -> Self {
        let files = Self { folder, sums: FileSums::default(), reserved_bytes: RESERVED_BYTES };
        for version in files.folders(&files.folder) {
            for platform in files.folders(&version) {
                for entry in fs::read_dir(&platform).into_iter().flatten().flatten() {
                    if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                        // A leftover is harmless, and the next start tries again.
                        let _ = fs::remove_file(entry.path());
                    }
                }
            }
        }
        files
    }

    /// The path of a stored program.
    pub fn path(&self, version: &Version, platform: Platform, program: Program) -> PathBuf {
        let folder = self.folder.join(version.to_string()).join(platform.to_string());
        folder.join(program.file_name())
    }

    /// True if the complete program is stored. Reads the whole file, unless it is unchanged since
    /// the last call. Blocks.
    pub fn has(&self, version: &Version, platform: Platform, file: &ProgramFile) -> bool {
        let path = self.path(version, platform, file.name);
        let has_size = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == file.bytes);
        has_size && self.sums.of(&path).is_ok_and(|sum| sum == file.sha256)
    }

    /// Deletes all programs of a version.
    ///
    /// # Errors
    /// [`ReleaseFileError`]
    pub fn remove(&self, version: &Version) -> Result<(), ReleaseFileError> {
        let folder = self.folder.join(version.to_string());
        self.sums.forget(&folder);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ReleaseFileError::of("remove", &folder)(error))
            }
            _ => Ok(()),
        }
    }

    /// Starts to receive a program.
    ///
    /// # Errors
    /// [`ReleaseStoreError::NoSpace`] if it would leave too little space;
    /// [`ReleaseStoreError::File`].
    pub fn receive(
        &self,
        version: &Version,
        platform: Platform,
        expected: &ProgramFile,
    ) -> Result<IncomingProgram, ReleaseStoreError> {
        let place = self.path(version, platform, expected.name);
        let folder = place.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(ReleaseFileError::of("create", folder))?;
        check_space(folder, self.reserved_bytes.saturating_add(expected.bytes))?;
        let temporary = folder.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
        let opened = OpenOptions::new().write(true).create_new(true).open(&temporary);
        Ok(IncomingProgram {
            file: opened.map_err(ReleaseFileError::of("create", &temporary))?,
            temporary,
            place,
            sum: Context::new(&SHA256),
            left: expected.bytes,
            reserved_bytes: self.reserved_bytes,
            expected: expected.clone(),
            is_done: false,
        })
    }

    fn folders(&self, within: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(within).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }
}

impl IncomingProgram {
    /// Writes more of it. Blocks.
    ///
    /// # Errors
    /// [`ReleaseStoreError`]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ReleaseStoreError> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or(ReleaseStoreError::Size(self.expected.bytes))?;
        // The disk may have filled since the start, for example by concurrent uploads.
        check_space(&self.temporary, self.reserved_bytes.saturating_add(bytes.len() as u64))?;
        self.sum.update(bytes);
        let written = self.file.write_all(bytes);
        Ok(written.map_err(ReleaseFileError::of("write", &self.temporary))?)
    }

    /// Ends the writing: checks size and checksum, and makes the bytes durable. Blocks.
    ///
    /// # Errors
    /// [`ReleaseStoreError`]
    pub fn verify(mut self) -> Result<VerifiedProgram, ReleaseStoreError> {
        if self.left > 0 {
            return Err(ReleaseStoreError::Size(self.expected.bytes));
        }
        let sum = std::mem::replace(&mut self.sum, Context::new(&SHA256)).finish();
        if HEXLOWER.encode(sum.as_ref()) != self.expected.sha256 {
            return Err(ReleaseStoreError::Sum);
        }
        self.file.sync_all().map_err(ReleaseFileError::of("sync", &self.temporary))?;
        Ok(VerifiedProgram(self))
    }
}

impl VerifiedProgram {
    /// Durably moves the file to its name. Blocks.
    ///
    /// # Errors
    /// [`ReleaseStoreError`]
    pub fn store(self) -> Result<(), ReleaseStoreError> {
        let Self(mut program) = self;
        fs::rename(&program.temporary, &program.place)
            .map_err(ReleaseFileError::of("create", &program.place))?;
        program.is_done = true;
        // The directories may be new too, and a published release must survive a power cut.
        for folder in program.place.ancestors().skip(1).take(4) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(ReleaseFileError::of("sync", folder))?;
        }
        Ok(())
    }
}

impl Drop for IncomingProgram {
    fn drop(&mut self) {
        if !self.is_done {
            // The next start deletes what remains.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Refuses if fewer bytes are free.
fn check_space(path: &Path, needed: u64) -> Result<(), ReleaseStoreError> {
    // If the free space is unknown, a full disk fails the write.
    match free_bytes(path) {
        Some(free) if free < needed => Err(ReleaseStoreError::NoSpace),
        _ => Ok(()),
    }
}

/// Free bytes of a path's disk; `None` if they are unknown.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// The size of all files in a folder; 0 if it does not exist.
fn size_of(folder: &Path) -> Result<u64, ReleaseFileError> {
    let failed = |error| ReleaseFileError::of("read", folder)(error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let found = entry.metadata().map_err(failed)?;
        bytes += if found.is_dir() { size_of(&entry.path())? } else { found.len() };
    }
    Ok(bytes)
}
