//! Writes a file: whole and with the right hash, or not at all.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::AsFd as _;

use data_encoding::HEXLOWER;
use muster_protocol::commands::file_transfer::{DEFAULT_MODE, PERMISSION_BITS};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use ring::digest::{Context, SHA256};

use super::folder::{Place, open_place};
use super::{BUFFER_BYTES, FileWork, TransferError};
use crate::executions::ledger::record::FileLaunch;
use crate::platform::{self, Account};

/// Writes the file from `input`.
///
/// # Errors
/// [`TransferError`]; nothing has changed then.
pub fn push(work: &FileWork, input: &mut impl Read) -> Result<String, TransferError> {
    let place = open_place(work)?;
    let before = before(&place)?;
    let mut new = NewFile::create(&place, work)?;
    copy(input, &mut new.file, &work.file)?;
    give(&new.file, &work.file, before.as_ref())?;
    new.file.sync_all().map_err(TransferError::system("write the file to the disk"))?;
    new.publish(&place)?;
    let FileLaunch { root, path, bytes, sha256, .. } = &work.file;
    Ok(format!(
        "wrote {} bytes to {root}/{path}, SHA-256 {}",
        bytes.unwrap_or_default(),
        sha256.as_deref().unwrap_or_default()
    ))
}

/// The file that has the name before, if there is one.
fn before(place: &Place) -> Result<Option<FileStat>, TransferError> {
    match fstatat(&place.folder, place.name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(TransferError::system("read the file that is there")(error)),
        Ok(found) => match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Ok(Some(found)),
            SFlag::S_IFLNK => Err(TransferError::Link(place.name.clone())),
            _ => Err(TransferError::NotPlain(place.name.clone())),
        },
    }
}

/// A file that has no name yet, or one of its own that is removed if it is not published.
struct NewFile<'a> {
    file: File,
    place: &'a Place,
    temporary: String,
    has_name: bool,
}

impl<'a> NewFile<'a> {
    fn create(place: &'a Place, work: &FileWork) -> Result<Self, TransferError> {
        let temporary = format!(".muster-{}.part", work.command_id);
        // A file without a name is gone with the process, even if that is killed.
        if let Some(file) = platform::unnamed_file(place.folder.as_fd()) {
            return Ok(Self { file, place, temporary, has_name: false });
        }
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let owner_only = Mode::S_IRUSR | Mode::S_IWUSR;
        let created = openat(&place.folder, temporary.as_str(), flags, owner_only);
        let file = created.map_err(TransferError::system("create a file in the folder"))?;
        Ok(Self { file: file.into(), place, temporary, has_name: true })
    }

    /// Gives the complete file its name, in place of the file that has it.
    fn publish(mut self, place: &Place) -> Result<(), TransferError> {
        let temporary = self.temporary.clone();
        if !self.has_name {
            platform::name_file(&self.file, place.folder.as_fd(), &temporary)
                .map_err(TransferError::system("create a file in the folder"))?;
            self.has_name = true;
        }
        renameat(&place.folder, temporary.as_str(), &place.folder, place.name.as_str())
            .map_err(TransferError::system("replace the file"))?;
        self.has_name = false;
        nix::unistd::fsync(&place.folder)
            .map_err(TransferError::system("write the folder to the disk"))
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if self.has_name {
            // What remains has a name that no program reads.
            let temporary = self.temporary.as_str();
            let _ = unlinkat(&self.place.folder, temporary, UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn copy(input: &mut impl Read, file: &mut File, launch: &FileLaunch) -> Result<(), TransferError> {
    let expected = launch.bytes.unwrap_or_default();
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0_u64;
    loop {
        let count = input.read(&mut buffer).map_err(TransferError::system("read the content"))?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        if bytes > expected {
            return Err(TransferError::Hash);
        }
        context.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(TransferError::system("write the file"))?;
    }
    let sha256 = HEXLOWER.encode(context.finish().as_ref());
    match bytes == expected && launch.sha256.as_deref() == Some(sha256.as_str()) {
        true => Ok(()),
        false => Err(TransferError::Hash),
    }
}

/// Sets owner and permissions: the requested ones, or those of the file before. Never a setuid, setgid or
/// sticky bit.
fn give(file: &File, launch: &FileLaunch, before: Option<&FileStat>) -> Result<(), TransferError> {
    if let Some(owner) = &launch.owner {
        let account = Account::named(owner).map_err(TransferError::system("look up the owner"))?;
        let account = account.ok_or_else(|| TransferError::UnknownOwner(owner.clone()))?;
        account.own(file).map_err(TransferError::system("change the owner"))?;
    } else if let Some(before) = before.filter(|_| platform::is_root()) {
        let (user, group) = (Uid::from_raw(before.st_uid), Gid::from_raw(before.st_gid));
        fchown(file, Some(user), Some(group)).map_err(TransferError::system("keep the owner"))?;
    }
    let kept = before.map(|before| before.st_mode & launch.max_mode);
    let bits = launch.mode.or(kept).unwrap_or(DEFAULT_MODE & launch.max_mode) & PERMISSION_BITS;
    let mode = Mode::from_bits_truncate(bits as libc::mode_t);
    fchmod(file, mode).map_err(TransferError::system("change the permissions"))
}
