//! Lists the files in the directory, to find those that no row references.

use std::ffi::OsStr;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::{BlobError, BlobName, Blobs, UNFINISHED, remove};
use crate::domain::ids::CommandId;

/// The subfolders of each kind.
const FOLDERS: u16 = 256;

impl Blobs {
    /// How many slices [`Blobs::old_files`] has.
    pub const SLICES: u16 = 2 * FOLDERS;

    /// The names of the files in a slice that were not modified for `untouched`. Removes unfinished
    /// files among them, because their writers are gone.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn old_files(&self, slice: u16, untouched: Duration) -> Result<Vec<BlobName>, BlobError> {
        let kind = if slice < FOLDERS { "live" } else { "compacted" };
        let folder = self.folder.join(kind).join(format!("{:02x}", slice % FOLDERS));
        let mut names = Vec::new();
        for inner in entries(&folder)? {
            for file in entries(&inner.path())? {
                if !is_untouched(&file, untouched) {
                    continue;
                }
                let path = file.path();
                if path.extension() == Some(OsStr::new(UNFINISHED)) {
                    remove(&path).map_err(BlobError::io("remove a file of output"))?;
                } else if let Some(name) = name_of(&path, kind == "live") {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }
}

fn entries(folder: &PathBuf) -> Result<Vec<DirEntry>, BlobError> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(BlobError::io("look for leftovers of output")(error)),
    }
}

fn is_untouched(file: &DirEntry, duration: Duration) -> bool {
    let touched_at = file.metadata().and_then(|metadata| metadata.modified());
    // After the clock was set back, a file may be from the future: it is ignored.
    touched_at.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= duration))
}

/// The name of a file; `None` if this module did not create it.
fn name_of(path: &Path, is_live: bool) -> Option<BlobName> {
    let id = Uuid::try_parse(path.file_stem()?.to_str()?).ok().map(CommandId)?;
    match path.extension() {
        None if is_live => Some(BlobName::Live(id)),
        Some(revision) if !is_live => {
            Some(BlobName::Compacted(id, revision.to_str()?.parse().ok()?))
        }
        _ => None,
    }
}
