//! The way from an allowed folder to the folder of a file. Each part is opened beneath the one before, and a
//! symbolic link is never followed, so no change of the file system in between leads elsewhere.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat, stat};

use super::{FileWork, TransferError};

/// The folder of a file, and the file's name in it.
pub struct Place {
    pub folder: OwnedFd,
    pub name: String,
}

/// Opens the folder of the file.
///
/// # Errors
/// [`TransferError`]
pub fn open_place(work: &FileWork) -> Result<Place, TransferError> {
    let file = &work.file;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // The host's owner chose this folder, perhaps by a link.
    let mut folder =
        open(file.root.as_str(), flags, Mode::empty()).map_err(|error| match error {
            Errno::ENOENT => TransferError::NoFolder(file.root.clone()),
            error => TransferError::system("open the allowed folder")(error),
        })?;
    let own = stat(&work.state_dir).ok();
    refuse_own(&folder, own.as_ref())?;
    let mut parts: Vec<&str> = file.path.split('/').collect();
    let name = parts.pop().unwrap_or_default().to_owned();
    for part in parts {
        folder = open_part(&folder, part, flags)?;
        refuse_own(&folder, own.as_ref())?;
    }
    Ok(Place { folder, name })
}

fn open_part(folder: &OwnedFd, part: &str, flags: OFlag) -> Result<OwnedFd, TransferError> {
    let flags = flags | OFlag::O_NOFOLLOW;
    openat(folder, part, flags, Mode::empty()).map_err(|error| match error {
        Errno::ENOTDIR | Errno::ELOOP => TransferError::Link(part.to_owned()),
        Errno::ENOENT => TransferError::NoFolder(part.to_owned()),
        error => TransferError::system("open a folder of the path")(error),
    })
}

/// Refuses the agent's state directory, by which path it may be reached.
fn refuse_own(folder: &OwnedFd, own: Option<&FileStat>) -> Result<(), TransferError> {
    let found = fstat(folder).map_err(TransferError::system("read a folder of the path"))?;
    match own.is_some_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)) {
        true => Err(TransferError::StateDirectory),
        false => Ok(()),
    }
}
