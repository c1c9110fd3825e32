//! The capsules that this host has used: a file with a line for each, `COMMAND_ID MILLISECONDS`.
//!
//! The ledger forgets results that the server has, and a server can make it set everything aside. This
//! file is kept apart, so that no server makes a capsule count twice.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use muster_protocol::capsule::MAX_CAPSULE_LIFETIME_MS;
use uuid::Uuid;

use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// How long an id is kept: a day longer than any capsule is valid.
const KEPT_MS: u64 = MAX_CAPSULE_LIFETIME_MS + 24 * 3_600_000;

/// The used capsules.
#[derive(Debug)]
pub struct UsedCapsules {
    path: PathBuf,
    used_at: HashMap<Uuid, u64>,
}

impl UsedCapsules {
    /// Reads the file, and drops what is too old to matter.
    ///
    /// # Errors
    /// [`StorageError`] if the file can't be read or written.
    pub fn open(state: &StateDir, now_ms: u64) -> Result<Self, StorageError> {
        let path = state.used_capsules();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        };
        let used_at: HashMap<Uuid, u64> = text
            .lines()
            .filter_map(read_line)
            .filter(|(_, used_at)| now_ms.saturating_sub(*used_at) < KEPT_MS)
            .collect();
        let used = Self { path, used_at };
        let kept = used.text();
        // Also after a crash within a line.
        if kept.len() != text.len() {
            storage::replace_synced(&used.path, kept.as_bytes())?;
        }
        Ok(used)
    }

    /// True if the capsule of this command was used.
    pub fn contains(&self, command_id: Uuid) -> bool {
        self.used_at.contains_key(&command_id)
    }

    /// Records a use durably, before the command starts.
    ///
    /// # Errors
    /// [`StorageError`]; the command must not start then.
    pub fn add(&mut self, command_id: Uuid, now_ms: u64) -> Result<(), StorageError> {
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).mode(0o600).open(&self.path);
        let mut file = opened.map_err(StorageError::io("open", &self.path))?;
        let is_new = self.used_at.is_empty();
        file.write_all(line(command_id, now_ms).as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(StorageError::io("write", &self.path))?;
        self.used_at.insert(command_id, now_ms);
        if is_new {
            // The name of a new file is durable only with its folder.
            storage::replace_synced(&self.path, self.text().as_bytes())?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        self.used_at.iter().fold(String::new(), |mut text, (id, at)| {
            // Writing to a string can't fail.
            let _ = write!(text, "{}", line(*id, *at));
            text
        })
    }
}

fn line(command_id: Uuid, now_ms: u64) -> String {
    format!("{} {now_ms}\n", command_id.hyphenated())
}

fn read_line(line: &str) -> Option<(Uuid, u64)> {
    let (id, at) = line.split_once(' ')?;
    Some((id.parse().ok()?, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_capsule_is_remembered_by_the_next_process_until_it_can_not_count_any_more() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let mut used = UsedCapsules::open(&state, 1_000).expect("empty");
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        used.add(one, 1_000).expect("written");
        used.add(two, 5_000).expect("written");
        drop(used);
        // A crash within a line.
        let mut text = fs::read_to_string(state.used_capsules()).expect("read");
        text.push_str("0000");
        fs::write(state.used_capsules(), text).expect("written");
        let mut used = UsedCapsules::open(&state, 2_000).expect("read");
        assert!(used.contains(one) && used.contains(two) && !used.contains(Uuid::from_u128(3)));
        used.add(Uuid::from_u128(3), 6_000).expect("written");
        // A clock that was set back forgets nothing.
        let used = UsedCapsules::open(&state, 0).expect("read");
        assert!(used.contains(one) && used.contains(Uuid::from_u128(3)));
        let used = UsedCapsules::open(&state, 1_000 + KEPT_MS).expect("read");
        assert!(!used.contains(one) && used.contains(two));
    }
}
