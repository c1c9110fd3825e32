//! Files that people push to hosts and pull from them: the names of both kinds of work, and what a request
//! has. Pure; the host decides which paths it allows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The capability of an agent that transfers files.
pub const CAPABILITY: &str = "files";
/// Distinguishes transfers from scripts, whose names have no colon.
pub const FILE_PREFIX: &str = "file:";
/// The name of the work that writes a file on the host, in limits, rules and the history.
pub const PUSH: &str = "file:push";
/// The name of the work that reads a file of the host: its standard output is the file.
pub const PULL: &str = "file:pull";
/// Largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// Longest path on a host, in bytes.
pub const MAX_FILE_PATH_BYTES: usize = 1024;
/// Longest name of a user on a host.
pub const MAX_OWNER_CHARS: usize = 32;
/// The permissions of a file that was not there before and has no requested ones.
pub const DEFAULT_MODE: u32 = 0o644;
/// All permissions. There is no setuid, setgid or sticky bit among them.
pub const PERMISSION_BITS: u32 = 0o777;

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOperation {
    /// Writes a file on the host.
    Push,
    /// Reads a file of the host.
    Pull,
}

impl FileOperation {
    /// The operation that a script's name stands for; `None` for a script.
    pub fn of(script: &str) -> Option<Self> {
        match script {
            PUSH => Some(Self::Push),
            PULL => Some(Self::Pull),
            _ => None,
        }
    }

    /// The name of the work.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => PUSH,
            Self::Pull => PULL,
        }
    }
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `file` in the data of an `execute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTransfer {
    /// The full path on the host.
    pub path: String,
    /// Hex SHA-256 of the content, for a push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size of the content, for a push. The server adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Permissions for a push: three octal digits, perhaps after a zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The user that a pushed file belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Why a transfer is refused. The messages follow the name of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileTransferError {
    #[error(
        "`path` must be a full path of at most 1024 bytes, without control characters, empty parts, `.` and `..`"
    )]
    Path,
    #[error("`sha256` must be that of an uploaded file: 64 digits and letters from a to f")]
    Sha256,
    #[error(
        "`mode` must be three octal digits such as 0644, without setuid, setgid or sticky bits"
    )]
    Mode,
    #[error("`owner` must be the name of a user")]
    Owner,
    #[error("`sha256`, `bytes`, `mode` and `owner` are for a push")]
    OnlyPush,
}

impl FileTransferError {
    /// The field that is wrong.
    pub fn field(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Sha256 | Self::OnlyPush => "sha256",
            Self::Mode => "mode",
            Self::Owner => "owner",
        }
    }
}

impl FileTransfer {
    /// Checks everything that does not depend on a host.
    ///
    /// # Errors
    /// [`FileTransferError`]
    pub fn check(&self, operation: FileOperation) -> Result<(), FileTransferError> {
        if !is_file_path(&self.path) {
            return Err(FileTransferError::Path);
        }
        if operation == FileOperation::Pull {
            let is_plain = self.sha256.is_none()
                && self.bytes.is_none()
                && self.mode.is_none()
                && self.owner.is_none();
            return if is_plain { Ok(()) } else { Err(FileTransferError::OnlyPush) };
        }
        if !self.sha256.as_deref().is_some_and(is_sha256) {
            return Err(FileTransferError::Sha256);
        }
        if self.mode.is_some() && self.mode_bits().is_none() {
            return Err(FileTransferError::Mode);
        }
        match self.owner.as_deref().is_none_or(is_user_name) {
            true => Ok(()),
            false => Err(FileTransferError::Owner),
        }
    }

    /// The requested permissions; `None` without, or if they are invalid.
    pub fn mode_bits(&self) -> Option<u32> {
        self.mode.as_deref().and_then(mode_bits)
    }
}

/// Reads permissions: three octal digits, perhaps after a zero.
pub fn mode_bits(text: &str) -> Option<u32> {
    let digits = match text.len() {
        4 => text.strip_prefix('0')?,
        _ => text,
    };
    let is_octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    is_octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten()
}

/// True for a full path whose parts are plain names, so that it names one place.
pub fn is_file_path(path: &str) -> bool {
    let Some(parts) = path.strip_prefix('/') else { return false };
    path.len() <= MAX_FILE_PATH_BYTES
        && !path.chars().any(char::is_control)
        && parts
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
}

/// True for a SHA-256 as this project writes it.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// True for a name as `useradd` allows it.
pub fn is_user_name(name: &str) -> bool {
    let is_start = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.len() <= MAX_OWNER_CHARS
        && name.as_bytes().first().is_some_and(is_start)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(path: &str) -> FileTransfer {
        FileTransfer {
            path: path.into(),
            sha256: Some("a".repeat(64)),
            bytes: None,
            mode: None,
            owner: None,
        }
    }

    #[test]
    fn a_path_is_full_and_names_one_place() {
        for right in ["/a", "/srv/www/index.html", "/ä b/…c", "/a/..b/.c"] {
            assert_eq!(push(right).check(FileOperation::Push), Ok(()), "{right}");
        }
        let long = format!("/{}", "a/".repeat(600));
        for wrong in [
            "", "/", "a", "a/b", "/a/", "//a", "/a//b", "/a/../b", "/./a", "/a/.", "/..", "/a\n",
            "/a\0", &long,
        ] {
            assert_eq!(
                push(wrong).check(FileOperation::Push),
                Err(FileTransferError::Path),
                "{wrong}"
            );
        }
    }

    #[test]
    fn permissions_have_no_bit_beyond_reading_writing_and_executing() {
        for (text, bits) in [("644", 0o644), ("0755", 0o755), ("000", 0), ("0777", 0o777)] {
            assert_eq!(mode_bits(text), Some(bits));
        }
        for wrong in ["", "4755", "2755", "1777", "0o644", "64", "00644", "888", "+44", "rw-"] {
            assert_eq!(mode_bits(wrong), None, "{wrong}");
            let transfer = FileTransfer { mode: Some(wrong.into()), ..push("/a") };
            assert_eq!(transfer.check(FileOperation::Push), Err(FileTransferError::Mode));
        }
    }

    #[test]
    fn a_pull_has_a_path_alone_and_a_push_has_a_hash() {
        let pull = FileTransfer { sha256: None, ..push("/a") };
        assert_eq!(pull.check(FileOperation::Pull), Ok(()));
        assert_eq!(push("/a").check(FileOperation::Pull), Err(FileTransferError::OnlyPush));
        assert_eq!(pull.check(FileOperation::Push), Err(FileTransferError::Sha256));
        let shouting = FileTransfer { sha256: Some("A".repeat(64)), ..push("/a") };
        assert_eq!(shouting.check(FileOperation::Push), Err(FileTransferError::Sha256));
        for wrong in ["", "0", "a b", "../root", "-x"] {
            let transfer = FileTransfer { owner: Some(wrong.into()), ..push("/a") };
            assert_eq!(
                transfer.check(FileOperation::Push),
                Err(FileTransferError::Owner),
                "{wrong}"
            );
        }
        assert_eq!(FileOperation::of("file:other"), None);
        assert_eq!(FileOperation::of(PUSH).map(FileOperation::as_str), Some(PUSH));
    }

    proptest! {
        #[test]
        fn a_path_that_is_allowed_never_leads_out_of_its_folder(path in "/[a-c./\\\\]{0,24}") {
            if is_file_path(&path) {
                let parts = std::path::Path::new(&path).components();
                let climbs = parts.into_iter().any(|part| part == std::path::Component::ParentDir);
                prop_assert!(!climbs);
            }
        }

        #[test]
        fn valid_permissions_fit_into_their_bits(text in "[0-9]{0,5}") {
            prop_assert!(mode_bits(&text).is_none_or(|bits| bits & !PERMISSION_BITS == 0));
        }
    }
}
