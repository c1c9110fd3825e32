//! Permissions of the files that the server creates.

use nix::sys::stat::{Mode, umask};

/// Makes every file that this process creates from now on readable by its user alone, because each
/// holds keys, output or what others sent.
pub fn close_new_files_to_others() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}
