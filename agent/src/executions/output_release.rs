//! Gives the space of output back that the server has stored, while a service runs.
//!
//! The start of the output file becomes a hole, so positions and offsets stay as they are. The agent makes the
//! hole and then writes how large it is; the shim, which must bound what the file takes, reads that number. The
//! hole ends at a checkpoint: from there on the file is read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::executions::ledger::checkpoints;
use crate::platform;

/// The file that says how large the hole is: a decimal number.
pub fn path_of(output: &Path) -> PathBuf {
    output.with_extension("released")
}

/// Size of the hole at the start of an output file, in bytes of the file.
pub fn released_bytes(output: &Path) -> u64 {
    fs::read_to_string(path_of(output)).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// What an output file takes of the disk.
pub fn held_bytes(output: &Path) -> u64 {
    let file_bytes = fs::metadata(output).map_or(0, |metadata| metadata.len());
    file_bytes.saturating_sub(released_bytes(output))
}

/// Releases what the server has acknowledged, up to the last checkpoint before it. True if there is more of it
/// than before.
///
/// # Errors
/// If the file system has no holes. The output is then kept, and the shim drops what exceeds its bound.
pub fn release(output: &Path, acked_bytes: u64) -> io::Result<bool> {
    let file_bytes = fs::metadata(output)?.len();
    let mark = checkpoints::last(output, file_bytes, |mark| mark.payload_bytes() <= acked_bytes);
    if mark.position <= released_bytes(output) {
        return Ok(false);
    }
    platform::release_start(&OpenOptions::new().write(true).open(output)?, mark.position)?;
    // In this order: what is counted as released is no longer there.
    let path = path_of(output);
    let fresh = path.with_added_extension("new");
    let mut options = OpenOptions::new();
    let mut file: File =
        options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(mark.position.to_string().as_bytes())?;
    fs::rename(&fresh, &path)?;
    Ok(true)
}
