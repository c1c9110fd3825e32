//! A disk that can lose power: a file system in a file, on a loop device. At the loss the kernel
//! shuts it down without writing out what nobody synced; mounted again, its journal is replayed,
//! as after a real one.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use crate::needs_root;
use crate::wait::eventually_blocking;

/// Sparse: only what is written takes room.
const BYTES: u64 = 2 << 30;
/// Until the last process that was killed has let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: neither data nor the journal is written out first.
const WITHOUT_FLUSH: u32 = 2;

nix::ioctl_read!(
    /// `EXT4_IOC_SHUTDOWN`. The kernel reads the number, whatever the direction in its code says.
    shut_down, b'X', 125, u32
);

/// A disk, mounted.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// Makes an empty disk beside `place`, a folder, and mounts it there. Needs root.
    ///
    /// # Panics
    /// Where the kernel has no loop devices or no ext4: without them nothing is known about losses
    /// of power.
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

    /// Cuts the power, and puts it back. Whoever used the disk has to be gone.
    pub fn lose_power(&self) {
        let root = File::open(&self.place).expect("open the disk");
        let mut how = WITHOUT_FLUSH;
        // SAFETY: the descriptor is open, and the number lives until the call returns.
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
