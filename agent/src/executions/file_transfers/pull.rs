//! Reads a file: as many bytes as it has when it is opened.

use std::fs::File;
use std::io::{Read as _, Write};

use data_encoding::HEXLOWER;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use ring::digest::{Context, SHA256};

use super::folder::open_place;
use super::{BUFFER_BYTES, FileWork, TransferError};

/// Writes the file to `output`.
///
/// # Errors
/// [`TransferError`]
pub fn pull(work: &FileWork, output: &mut impl Write) -> Result<String, TransferError> {
    let place = open_place(work)?;
    let name = || place.name.clone();
    // A pipe without a writer must not block.
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let opened = openat(&place.folder, place.name.as_str(), flags, Mode::empty());
    let opened = opened.map_err(|error| match error {
        Errno::ENOENT => TransferError::Missing(name()),
        Errno::ELOOP => TransferError::Link(name()),
        error => TransferError::system("open the file")(error),
    })?;
    let found = fstat(&opened).map_err(TransferError::system("read the file"))?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(TransferError::NotPlain(name()));
    }
    // A user who may write in the folder could link a file there that only root may read.
    if found.st_nlink > 1 {
        return Err(TransferError::Linked(name()));
    }
    let bytes = u64::try_from(found.st_size).unwrap_or_default();
    if bytes > work.file.max_bytes {
        return Err(TransferError::TooLarge { bytes, most_bytes: work.file.max_bytes });
    }
    let mut file = File::from(opened);
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = bytes;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count =
            file.read(&mut buffer[..most]).map_err(TransferError::system("read the file"))?;
        if count == 0 {
            return Err(TransferError::Shortened);
        }
        context.update(&buffer[..count]);
        output.write_all(&buffer[..count]).map_err(TransferError::system("send the file"))?;
        left -= count as u64;
    }
    output.flush().map_err(TransferError::system("send the file"))?;
    let sha256 = HEXLOWER.encode(context.finish().as_ref());
    Ok(format!("read {bytes} bytes of {}/{}, SHA-256 {sha256}", work.file.root, work.file.path))
}
