//! Finds files that a run left behind, within bounds.

use std::fs::{self, File};
use std::io::{Read as _, Take};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::platform;

/// Most entries of folders that are looked at.
const MAX_REHEARSAL_ENTRIES: usize = 10_000;
/// Most bytes of files that are read.
const MAX_REHEARSAL_BYTES: u64 = 64 * 1024 * 1024;
/// Deepest folder that is looked at.
const MAX_REHEARSAL_DEPTH: usize = 8;

/// A file of the user of the run.
pub struct FoundFile {
    pub path: PathBuf,
    pub file: Take<File>,
}

/// One search, whose bounds hold for all folders together.
pub struct FileSearch {
    user: u32,
    started_at: SystemTime,
    entries_left: usize,
    bytes_left: u64,
    is_complete: bool,
}

impl FileSearch {
    /// For files of this user, or of this process's own user.
    pub fn new(user: Option<u32>, started_at: SystemTime) -> Self {
        Self {
            user: user.unwrap_or_else(platform::own_user),
            started_at,
            entries_left: MAX_REHEARSAL_ENTRIES,
            bytes_left: MAX_REHEARSAL_BYTES,
            is_complete: true,
        }
    }

    /// False if a bound ended the search.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Each file below a folder of the run.
    pub fn each(&mut self, folder: &Path, look: &mut impl FnMut(FoundFile)) {
        self.walk(folder, None, 0, look);
    }

    /// Each file in a folder that others use too, and in its folders, if file and folder were changed since the
    /// run began. `without`: folders that are left out.
    pub fn each_new(&mut self, folder: &Path, without: &[&Path], look: &mut impl FnMut(FoundFile)) {
        self.walk(folder, Some(without), 0, look);
    }

    fn walk(
        &mut self,
        folder: &Path,
        shared_without: Option<&[&Path]>,
        depth: usize,
        look: &mut impl FnMut(FoundFile),
    ) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            if self.entries_left == 0 {
                self.is_complete = false;
                return;
            }
            self.entries_left -= 1;
            let path = entry.path();
            // Links are not followed.
            let Ok(metadata) = entry.metadata() else { continue };
            let is_left_out = shared_without.is_some_and(|left| left.contains(&path.as_path()));
            let is_new = metadata.modified().is_ok_and(|at| at >= self.started_at);
            let is_wanted = shared_without.is_none() || is_new;
            if metadata.uid() != self.user || is_left_out || !is_wanted {
                continue;
            }
            if metadata.is_dir() {
                match depth < MAX_REHEARSAL_DEPTH {
                    true => self.walk(&path, shared_without, depth + 1, look),
                    false => self.is_complete = false,
                }
                continue;
            }
            if !metadata.is_file() {
                continue;
            }
            if metadata.len() > self.bytes_left {
                self.is_complete = false;
                continue;
            }
            self.bytes_left -= metadata.len();
            if let Ok(file) = platform::open_plain_file(&path, Some(self.user)) {
                look(FoundFile { path, file: file.take(metadata.len()) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_all_folders_and_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inside, outside) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(inside.join("c/d")).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(inside.join("c/d/file"), "x").expect("written");
        fs::write(outside.join("other"), "x").expect("written");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("linked");
        std::os::unix::fs::symlink(outside.join("other"), inside.join("file")).expect("linked");
        let mut found = Vec::new();
        let mut search = FileSearch::new(None, SystemTime::UNIX_EPOCH);
        search.each(&inside, &mut |file| found.push(file.path));
        assert_eq!(found, [inside.join("c/d/file")]);
        assert!(search.is_complete());
        // Files of others' runs, and what is older than the run.
        let mut found = Vec::new();
        search.each_new(folder.path(), &[&inside], &mut |file| found.push(file.path));
        assert_eq!(found, [outside.join("other")]);
        let later = SystemTime::now() + std::time::Duration::from_secs(3_600);
        let mut search = FileSearch::new(None, later);
        search.each_new(folder.path(), &[], &mut |file| panic!("{}", file.path.display()));
    }
}
