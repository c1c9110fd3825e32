//! A disk that can lose power: a file system in a file, on a loop device. At the loss of power the
//! kernel shuts it down without writing data that was not synced. When it is mounted again, its
//! journal is replayed, as after a real power loss.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use crate::needs_root;
use crate::wait::eventually_blocking;

/// Sparse: only written blocks take space.
const BYTES: u64 = 2 << 30;
/// Time limit for the last killed process to release the disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: neither data nor the journal is written first.
const WITHOUT_FLUSH: u32 = 2;

nix::ioctl_read!(
    /// `EXT4_IOC_SHUTDOWN`. The kernel reads the argument, although the direction in the code is
    /// the opposite.
    shut_down, b'X', 125, u32
);

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// Creates an empty disk in a file beside the folder `place`, and mounts it there. Needs root.
    ///
    /// # Panics
    /// If the kernel has no loop devices or no ext4: a loss of power cannot be tested without them.
    pub fn mounted(place: &Path) -> Self {
        needs_root();
        let image = place.with_extension("disk");
        File::create(&image).and_then(|file| file.set_len(BYTES)).expect("make a disk's image");
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-J", "size=8"]).arg(&image));
        let disk = Self { image, place: place.to_owned() };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Cuts the power and restores it. All processes that use the disk must have ended.
    pub fn lose_power(&self) {
        let root = File::open(&self.place).expect("open the disk");
        let mut how = WITHOUT_FLUSH;
        // SAFETY: the descriptor is open, and the number is valid until the call returns.
        unsafe { shut_down(root.as_raw_fd(), &mut how) }
            .expect("shut the disk down; this test needs ext4 with EXT4_IOC_SHUTDOWN");
        drop(root);
        let gone = || umount2(&self.place, MntFlags::empty()).ok();
        assert!(eventually_blocking(PATIENCE, gone).is_some(), "the disk is still in use");
        self.mount();
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.place));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = umount2(&self.place, MntFlags::MNT_DETACH);
        assert!(gone.is_ok() || std::thread::panicking(), "the disk stays mounted: {gone:?}");
    }
}

fn run(command: &mut Command) {
    let output =
        command.output().unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {said}; this test needs loop devices and ext4: run it on a machine that has them"
    );
}
