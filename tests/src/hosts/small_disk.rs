//! A disk of a few MiB, for programs that must run out of space.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

/// A small disk mounted over a folder, until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts it.
    ///
    /// # Panics
    /// Without root.
    pub fn over(folder: &Path, mib: u64) -> Self {
        crate::needs_root();
        let size = format!("size={mib}m,mode=0700");
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .expect("mount a small disk");
        Self { folder: folder.to_owned() }
    }

    /// Writes until no byte is free.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("make a file");
        let mut step = vec![0; 1024 * 1024];
        while !step.is_empty() {
            while file.write_all(&step).is_ok() {}
            step.truncate(step.len() / 2);
        }
    }

    /// Writes until about this many MiB are free.
    pub fn fill_but(&self, mib: u64) {
        let free = statvfs(&self.folder).expect("look at the disk");
        let bytes = free.blocks_available() * free.fragment_size();
        let file = File::create(self.filler()).expect("make a file");
        let length = i64::try_from(bytes.saturating_sub(mib * 1024 * 1024)).expect("a small disk");
        posix_fallocate(file, 0, length).expect("fill the disk");
    }

    /// Frees the space again.
    pub fn clear(&self) {
        std::fs::remove_file(self.filler()).expect("make room");
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.folder, MntFlags::MNT_DETACH) {
            eprintln!("failed to take the disk away from {}: {error}", self.folder.display());
        }
    }
}
