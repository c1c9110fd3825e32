//! The programs of releases: files on the server's disk. Knows no requests and no database.
//!
//! Names are made of types alone. A file is there under its name only once it is whole: it is
//! written under another one first.

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use muster_protocol::release::{Platform, Program, ProgramFile, Version};
use nix::sys::statvfs::statvfs;
use ring::digest::{Context, SHA256};
use uuid::Uuid;

use super::file_sums::FileSums;

/// Free bytes of the disk below which nothing more is received.
const RESERVED_BYTES: u64 = 64 * 1024 * 1024;
/// What the names of unfinished uploads begin with.
const UNFINISHED: &str = ".upload-";

/// A file of a release could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
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

/// Where the programs lie: `<folder>/<version>/<platform>/<program>`.
#[derive(Debug)]
pub struct ReleaseFiles {
    folder: PathBuf,
    /// Of the files that are there.
    sums: FileSums,
    /// Free bytes that are left to others, the database above all.
    reserved_bytes: u64,
}

/// A program that is being received. Dropped before its end it leaves nothing.
pub struct Receiving {
    file: File,
    temporary: PathBuf,
    place: PathBuf,
    sum: Context,
    left: u64,
    reserved_bytes: u64,
    expected: ProgramFile,
    is_done: bool,
}

/// Why a program that was received is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseStoreError {
    #[error("it has not the {0} bytes that the manifest says")]
    Size(u64),
    #[error("it has not the SHA-256 that the manifest says")]
    Sum,
    #[error("the server's disk has too little room; make some and try again")]
    NoSpace,
    #[error("write it")]
    File(#[from] ReleaseFileError),
}

impl ReleaseFiles {
    /// Files in `folder`. What an earlier server has left unfinished goes.
    pub fn new(folder: PathBuf) -> Self {
        let files = Self { folder, sums: FileSums::default(), reserved_bytes: RESERVED_BYTES };
        for version in files.folders(&files.folder) {
            for platform in files.folders(&version) {
                for entry in fs::read_dir(&platform).into_iter().flatten().flatten() {
                    if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                        // It is of no use, and another start tries again.
                        let _ = fs::remove_file(entry.path());
                    }
                }
            }
        }
        files
    }

    /// Where a program is, if it is there.
    pub fn path(&self, version: &Version, platform: Platform, program: Program) -> PathBuf {
        let folder = self.folder.join(version.to_string()).join(platform.to_string());
        folder.join(program.file_name())
    }

    /// True if a program is there, whole. Reads all of it, unless it has not changed since. Blocks.
    pub fn has(&self, version: &Version, platform: Platform, file: &ProgramFile) -> bool {
        let path = self.path(version, platform, file.name);
        let has_size = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == file.bytes);
        has_size && self.sums.of(&path).is_ok_and(|sum| sum == file.sha256)
    }

    /// Forgets all programs of a version.
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

    /// Begins to receive a program.
    ///
    /// # Errors
    /// [`ReleaseStoreError::NoSpace`] if it would leave too little room; [`ReleaseStoreError::File`].
    pub fn receive(
        &self,
        version: &Version,
        platform: Platform,
        expected: &ProgramFile,
    ) -> Result<Receiving, ReleaseStoreError> {
        let place = self.path(version, platform, expected.name);
        let folder = place.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(ReleaseFileError::of("make", folder))?;
        check_space(folder, self.reserved_bytes.saturating_add(expected.bytes))?;
        let temporary = folder.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
        let opened = OpenOptions::new().write(true).create_new(true).open(&temporary);
        Ok(Receiving {
            file: opened.map_err(ReleaseFileError::of("make", &temporary))?,
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

impl Receiving {
    /// Takes more of it. Blocks.
    ///
    /// # Errors
    /// [`ReleaseStoreError`]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ReleaseStoreError> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or(ReleaseStoreError::Size(self.expected.bytes))?;
        // Others may have filled the disk since it began, other programs on their way among them.
        check_space(&self.temporary, self.reserved_bytes.saturating_add(bytes.len() as u64))?;
        self.sum.update(bytes);
        let written = self.file.write_all(bytes);
        Ok(written.map_err(ReleaseFileError::of("write", &self.temporary))?)
    }

    /// That was all: puts it in its place, durably, if it is what it should be. Blocks.
    ///
    /// # Errors
    /// [`ReleaseStoreError`]
    pub fn finish(mut self) -> Result<(), ReleaseStoreError> {
        if self.left > 0 {
            return Err(ReleaseStoreError::Size(self.expected.bytes));
        }
        let sum = std::mem::replace(&mut self.sum, Context::new(&SHA256)).finish();
        if hex::encode(sum) != self.expected.sha256 {
            return Err(ReleaseStoreError::Sum);
        }
        self.file.sync_all().map_err(ReleaseFileError::of("sync", &self.temporary))?;
        fs::rename(&self.temporary, &self.place)
            .map_err(ReleaseFileError::of("place", &self.place))?;
        self.is_done = true;
        // The folders above may be new too: publishing must outlive a power cut.
        for folder in self.place.ancestors().skip(1).take(4) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(ReleaseFileError::of("sync", folder))?;
        }
        Ok(())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.is_done {
            // What stays is removed by the next start.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Refuses where fewer bytes are free.
fn check_space(path: &Path, wanted: u64) -> Result<(), ReleaseStoreError> {
    // If it can't be told, the write itself will tell.
    let Ok(disk) = statvfs(path) else { return Ok(()) };
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    if free < wanted { Err(ReleaseStoreError::NoSpace) } else { Ok(()) }
}
