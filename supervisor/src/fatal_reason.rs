//! Reads the reason that an agent writes to `fatal_reason` before it exits with 99.
//!
//! The agent owns the file: its content, type and size are not trusted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Longest reason that is passed on, in characters.
pub const MAX_CHARS: usize = 300;

/// File systems use a coarser clock than the one that `started_at` was read from.
const STAMP_SLACK: Duration = Duration::from_millis(100);

/// The first line of `fatal_reason` if it was written after `started_at`, without control
/// characters. `None` if there is none.
pub fn read(state_dir: &Path, started_at: SystemTime) -> Option<String> {
    let file = open(&state_dir.join("fatal_reason")).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.modified().ok()? + STAMP_SLACK < started_at {
        return None;
    }
    let mut bytes = Vec::new();
    // A character takes at most four bytes.
    file.take(4 * MAX_CHARS as u64).read_to_end(&mut bytes).ok()?;
    first_line(&String::from_utf8_lossy(&bytes))
}

fn first_line(text: &str) -> Option<String> {
    let line = text.trim_start().lines().next()?;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = line.chars().take(MAX_CHARS).map(clean).collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    crate::platform::refuse_links_and_pipes(&mut options);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn first_line_is_bounded_and_has_no_control_characters() {
        assert_eq!(first_line("the key was deleted\nmore"), Some("the key was deleted".into()));
        assert_eq!(first_line("\n\n red \x1b[31malert\u{7}\r\n"), Some("red  [31malert".into()));
        assert_eq!(first_line(" \n"), None);
        assert_eq!(first_line(&"ü".repeat(999)).unwrap().chars().count(), MAX_CHARS);
    }

    #[test]
    fn reason_of_an_earlier_run_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("fatal_reason"), "the key was deleted\n").unwrap();
        let now = SystemTime::now();
        assert_eq!(read(dir.path(), now), Some("the key was deleted".into()));
        assert_eq!(read(dir.path(), now + Duration::from_secs(5)), None);
    }

    #[cfg(unix)]
    #[test]
    fn link_is_not_followed_and_pipe_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fatal_reason");
        fs::write(dir.path().join("secret"), "root:x:0").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), &path).unwrap();
        assert_eq!(read(dir.path(), SystemTime::UNIX_EPOCH), None);

        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(dir.path(), SystemTime::UNIX_EPOCH), None);
    }
}
