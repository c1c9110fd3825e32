//! Standard input of `muster` as the input of what it runs.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use muster_protocol::commands::stdin::{MAX_STDIN_BYTES, Stdin};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::CliError;

/// How long a pipe may take to get bytes or to be closed.
const PIPE_WAIT_MS: u16 = 1_000;

/// Reads all of standard input.
///
/// # Errors
/// [`CliError::Usage`] if it is too long.
pub fn read() -> Result<Stdin, CliError> {
    let mut bytes = Vec::new();
    // One byte more than the limit shows that it is too long.
    io::stdin().lock().take(MAX_STDIN_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Stdin::new(bytes).map_err(|_| {
        CliError::Usage("standard input has more than 256 KiB; send less, or a file".into())
    })
}

/// Refuses input that nothing would read. A terminal, `/dev/null`, an empty file, a closed pipe and a socket
/// are fine.
///
/// # Errors
/// [`CliError::Usage`] that says how to pass the input on.
pub fn refuse_unread() -> Result<(), CliError> {
    // Without standard input nothing is lost.
    let Ok(owned) = io::stdin().as_fd().try_clone_to_owned() else { return Ok(()) };
    match !io::stdin().is_terminal() && has_input(&mut File::from(owned), PIPE_WAIT_MS).unwrap_or(false) {
        true => Err(CliError::Usage(
            "standard input is a pipe or a file, and would be lost; pass it on with --stdin, or add \
             `</dev/null`"
                .into(),
        )),
        false => Ok(()),
    }
}

/// True for a file with bytes left, and for a pipe that has bytes or may get some.
fn has_input(file: &mut File, wait_ms: u16) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(file.stream_position()? < metadata.len());
    }
    if !metadata.file_type().is_fifo() {
        return Ok(false);
    }
    let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    // The parent may be about to close it.
    poll(&mut ready, PollTimeout::from(wait_ms))?;
    let events = ready[0].revents().unwrap_or(PollFlags::empty());
    let is_ended = events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN);
    Ok(!is_ended)
}

#[cfg(test)]
mod tests {
    use std::io::{SeekFrom, Write as _};
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn pipe_has_input_until_it_is_read_and_closed() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut reader = File::from(OwnedFd::from(reader));
        assert!(has_input(&mut reader, 0).expect("polled"), "more may come");
        writer.write_all(b"x").expect("written");
        drop(writer);
        assert!(has_input(&mut reader, 0).expect("polled"));
        reader.read_exact(&mut [0]).expect("read");
        assert!(!has_input(&mut reader, 0).expect("polled"));
    }

    #[test]
    fn file_has_input_until_its_end_and_a_device_has_none() {
        let mut file = tempfile::tempfile().expect("a file");
        assert!(!has_input(&mut file, 0).expect("read"));
        file.write_all(b"x").expect("written");
        file.seek(SeekFrom::Start(0)).expect("sought");
        assert!(has_input(&mut file, 0).expect("read"));
        let mut null = File::open("/dev/null").expect("opened");
        assert!(!has_input(&mut null, 0).expect("read"));
    }
}
