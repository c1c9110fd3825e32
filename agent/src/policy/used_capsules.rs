//! The capsules that this host has used: a file with a line for each, `COMMAND_ID MILLISECONDS`, with the
//! instant at which the capsule expires.
//!
//! The ledger forgets results that the server has, and a server can make it set everything aside. This
//! file is kept apart, so that no server makes a capsule count twice. Nothing in it depends on the host's
//! clock, which may be wrong for a while: an id is dropped only when there are very many, and then every
//! capsule that expires no later than its own counts as expired for good.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use uuid::Uuid;

use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// Most ids that are kept, in a file of 3.5 MB.
const MAX_USED_CAPSULES: usize = 65_536;
/// Ids that are dropped at once, so that the file is rewritten rarely.
const DROPPED_AT_ONCE: usize = MAX_USED_CAPSULES / 8;
/// Names the line with the instant until which ids were dropped.
const FORGOTTEN: &str = "forgotten";

/// The used capsules.
#[derive(Debug)]
pub struct UsedCapsules {
    path: PathBuf,
    /// By id, when each expires.
    used: BTreeMap<Uuid, u64>,
    forgotten_until_ms: u64,
    most: usize,
}

impl UsedCapsules {
    /// Reads the file.
    ///
    /// # Errors
    /// [`StorageError`] if the file can't be read or written.
    pub fn open(state: &StateDir) -> Result<Self, StorageError> {
        let path = state.used_capsules();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        };
        let (used, forgotten_until_ms) = (BTreeMap::new(), 0);
        let mut known = Self { path, used, forgotten_until_ms, most: MAX_USED_CAPSULES };
        for line in text.lines() {
            known.read_line(line);
        }
        let kept = known.text();
        // Also after a crash within a line.
        if kept.len() != text.len() {
            storage::replace_synced(&known.path, kept.as_bytes())?;
        }
        Ok(known)
    }

    /// True if the capsule of this command was used.
    pub fn contains(&self, command_id: Uuid) -> bool {
        self.used.contains_key(&command_id)
    }

    /// Capsules that expire until then may have been used, and count as expired. 0 if none was dropped.
    pub fn forgotten_until_ms(&self) -> u64 {
        self.forgotten_until_ms
    }

    /// Records a use durably, before the command starts.
    ///
    /// # Errors
    /// [`StorageError`]; the command must not start then.
    pub fn add(&mut self, command_id: Uuid, expires_at_ms: u64) -> Result<(), StorageError> {
        let is_new = self.used.is_empty();
        self.used.insert(command_id, expires_at_ms);
        if is_new || self.used.len() > self.most {
            self.drop_some();
            // The name of a new file is durable only with its folder.
            return storage::replace_synced(&self.path, self.text().as_bytes());
        }
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).mode(0o600).open(&self.path);
        let mut file = opened.map_err(StorageError::io("open", &self.path))?;
        file.write_all(line(&command_id.hyphenated().to_string(), expires_at_ms).as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(StorageError::io("write", &self.path))
    }

    /// Drops the ids that expire first, if there are too many.
    fn drop_some(&mut self) {
        if self.used.len() <= self.most {
            return;
        }
        let mut by_expiry: Vec<_> = self.used.iter().map(|(id, at)| (*at, *id)).collect();
        by_expiry.sort_unstable();
        by_expiry.truncate(DROPPED_AT_ONCE.min(by_expiry.len()).max(1));
        for (at, id) in by_expiry {
            self.forgotten_until_ms = self.forgotten_until_ms.max(at);
            self.used.remove(&id);
        }
    }

    fn read_line(&mut self, line: &str) {
        let Some((name, at)) = line.split_once(' ') else { return };
        let Ok(at) = at.parse() else { return };
        if name == FORGOTTEN {
            self.forgotten_until_ms = self.forgotten_until_ms.max(at);
        } else if let Ok(id) = name.parse() {
            self.used.insert(id, at);
        }
    }

    fn text(&self) -> String {
        let mut text = match self.forgotten_until_ms {
            0 => String::new(),
            at => line(FORGOTTEN, at),
        };
        for (id, at) in &self.used {
            // Writing to a string can't fail.
            let _ = write!(text, "{}", line(&id.hyphenated().to_string(), *at));
        }
        text
    }
}

fn line(name: &str, at_ms: u64) -> String {
    format!("{name} {at_ms}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(folder: &tempfile::TempDir) -> StateDir {
        StateDir::create(folder.path()).expect("state directory")
    }

    #[test]
    fn a_used_capsule_is_remembered_by_the_next_process() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = state(&folder);
        let mut used = UsedCapsules::open(&state).expect("empty");
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        used.add(one, 1_000).expect("written");
        used.add(two, 5_000).expect("written");
        drop(used);
        // A crash within a line.
        let mut text = fs::read_to_string(state.used_capsules()).expect("read");
        text.push_str("0000");
        fs::write(state.used_capsules(), text).expect("written");
        let mut used = UsedCapsules::open(&state).expect("read");
        assert!(used.contains(one) && used.contains(two) && !used.contains(Uuid::from_u128(3)));
        used.add(Uuid::from_u128(3), 6_000).expect("written");
        let used = UsedCapsules::open(&state).expect("read");
        assert!(used.contains(one) && used.contains(Uuid::from_u128(3)));
        assert_eq!(used.forgotten_until_ms(), 0);
    }

    #[test]
    fn what_is_dropped_of_very_many_counts_as_expired_for_good() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = state(&folder);
        let mut used = UsedCapsules::open(&state).expect("empty");
        used.most = 4;
        for n in 1..=5_u64 {
            used.add(Uuid::from_u128(n.into()), n * 1_000).expect("written");
        }
        let used = UsedCapsules::open(&state).expect("read");
        let forgotten = (1..=5_u64).filter(|n| !used.contains(Uuid::from_u128((*n).into())));
        let latest = forgotten.map(|n| n * 1_000).max().expect("some were dropped");
        assert_eq!(used.forgotten_until_ms(), latest);
    }
}
