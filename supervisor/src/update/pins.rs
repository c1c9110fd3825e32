//! What a host trusts: the key that signs releases, and the version below which it accepts none.
//! Both are files in the program folder.
//!
//! A file that can't be read is never treated as missing: then nothing is installed.

use std::path::{Path, PathBuf};

use muster_protocol::release::{ReleaseDescriptor, Version};

use super::durable_file::{self, FileError};
use super::package::Package;

/// The fingerprint of the pinned release key.
const KEY_FILE: &str = "release_key";
/// The highest floor of the releases that this host has verified.
const FLOOR_FILE: &str = "release_floor";

/// Why the host's trust can't be determined.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(
        "failed to read what this host trusts; make it a regular file owned by the supervisor's user, or remove it to pin again"
    )]
    Unreadable(#[from] FileError),
    #[error(
        "{} must be one line with the 64 hex digits of a key's fingerprint; correct it, or remove it to pin again", .0.display()
    )]
    Key(PathBuf),
    #[error("{} must be one line with a version; correct it, or remove it", .0.display())]
    Floor(PathBuf),
}

/// The pinned key and floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// 64 lower-case hex digits; `None` if no key is pinned yet.
    pub fingerprint: Option<String>,
    /// `None` if no release was verified yet.
    pub floor: Option<Version>,
}

impl Pins {
    /// Reads the pins in a program folder.
    ///
    /// # Errors
    /// [`PinError`]; nothing may be installed.
    pub fn read(program: &Path) -> Result<Self, PinError> {
        let key = program.join(KEY_FILE);
        let fingerprint = match line(&key)? {
            None => None,
            Some(line) => Some(fingerprint(&line).ok_or(PinError::Key(key))?),
        };
        let path = program.join(FLOOR_FILE);
        let floor = match line(&path)? {
            None => None,
            Some(line) => Some(line.parse().map_err(|_| PinError::Floor(path))?),
        };
        Ok(Self { fingerprint, floor })
    }

    /// Pins the key and raises the floor by the documents of a version that is kept. Keeps a
    /// different pinned key unless key changes lead from it to the new one.
    ///
    /// # Errors
    /// [`FileError`]
    pub(super) fn update_from(&self, program: &Path, package: &Package) -> Result<(), FileError> {
        let Ok((ReleaseDescriptor { floor, .. }, key)) = package.identity() else { return Ok(()) };
        let pinned = self.fingerprint.as_deref();
        let is_new = pinned.is_none_or(|pinned| pinned != key.fingerprint());
        if is_new && pinned.is_none_or(|pinned| package.is_trusted_by(pinned)) {
            durable_file::write_line(&program.join(KEY_FILE), &key.fingerprint())?;
        }
        self.raise_floor(program, &floor)
    }

    /// Makes a higher floor durable; a lower one changes nothing.
    ///
    /// # Errors
    /// [`FileError`]
    pub(super) fn raise_floor(&self, program: &Path, floor: &Version) -> Result<(), FileError> {
        if self.floor.as_ref().is_none_or(|known| known < floor) {
            durable_file::write_line(&program.join(FLOOR_FILE), &floor.to_string())?;
        }
        Ok(())
    }
}

/// The only line of a file, empty if there is not exactly one. `None` if the file does not exist.
fn line(path: &Path) -> Result<Option<String>, FileError> {
    let Some(bytes) = durable_file::read_if_exists(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).unwrap_or_default();
    let mut lines = text.trim().lines();
    let line = lines.next().filter(|_| lines.next().is_none()).unwrap_or_default();
    Ok(Some(line.trim().to_owned()))
}

fn fingerprint(line: &str) -> Option<String> {
    let is_one = line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| line.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(key: Option<&[u8]>, floor: Option<&[u8]>) -> Result<Pins, PinError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [(KEY_FILE, key), (FLOOR_FILE, floor)] {
            if let Some(bytes) = bytes {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
        }
        Pins::read(folder.path())
    }

    #[test]
    fn only_a_missing_file_means_no_pin() {
        assert_eq!(read(None, None).unwrap(), Pins { fingerprint: None, floor: None });
        let digits = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
        let pins = read(Some(format!("{digits}\n").as_bytes()), Some(b"0.2.0\n")).unwrap();
        assert_eq!(pins.fingerprint, Some(digits.to_ascii_lowercase()));
        assert_eq!(pins.floor, Some(Version::new(0, 2, 0)));

        let large = vec![b'a'; 70_000];
        for bad in [&b""[..], b"\n", b"key\n", b"\xff\xfe", &digits.as_bytes()[1..], &large] {
            assert!(read(Some(bad), None).is_err(), "{bad:?}");
            assert!(read(None, Some(bad)).is_err(), "{bad:?}");
        }
        let two = format!("{digits}\n{digits}\n");
        assert!(read(Some(two.as_bytes()), None).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_and_folders_are_errors_and_not_missing_pins() {
        for name in [KEY_FILE, FLOOR_FILE] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            fs::write(folder.path().join("there"), "0".repeat(64)).unwrap();
            for target in ["there", "nowhere"] {
                std::os::unix::fs::symlink(target, &path).unwrap();
                assert!(Pins::read(folder.path()).is_err(), "{name} -> {target}");
                fs::remove_file(&path).unwrap();
            }
            fs::create_dir(&path).unwrap();
            assert!(Pins::read(folder.path()).is_err());
        }
    }
}
