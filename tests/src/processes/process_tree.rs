//! Finds processes that belong to a folder: by command line, environment, working directory or
//! ancestor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A process that is running now.
#[derive(Debug, Clone)]
pub struct FoundProcess {
    pub id: i32,
    pub parent_id: i32,
    /// Its arguments, joined by spaces.
    pub command_line: String,
}

/// Every live process, other than this one, that mentions the folder or descends from one that does.
pub fn processes_of(folder: &Path) -> Vec<FoundProcess> {
    let needle = folder.as_os_str().as_encoded_bytes();
    let own = std::process::id() as i32;
    let all: BTreeMap<i32, FoundProcess> = numeric_entries().filter_map(read).collect();
    let mut ours: BTreeSet<i32> =
        all.keys().copied().filter(|id| *id != own && mentions(*id, needle)).collect();
    loop {
        let before = ours.len();
        ours.extend(
            all.values()
                .filter(|one| ours.contains(&one.parent_id))
                .map(|one| one.id)
                .collect::<Vec<_>>(),
        );
        if ours.len() == before {
            break;
        }
    }
    ours.into_iter().filter_map(|id| all.get(&id).cloned()).collect()
}

fn numeric_entries() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .expect("read /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn read(id: i32) -> Option<(i32, FoundProcess)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may contain anything, so fields are read after the last parenthesis.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let parent_id = fields.next()?.parse().ok()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let arguments = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let command_line = String::from_utf8_lossy(&arguments).replace('\0', " ");
    Some((id, FoundProcess { id, parent_id, command_line }))
}

fn mentions(id: i32, needle: &[u8]) -> bool {
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    ["cmdline", "environ"]
        .iter()
        .any(|file| fs::read(format!("/proc/{id}/{file}")).is_ok_and(|bytes| holds(&bytes)))
        || fs::read_link(format!("/proc/{id}/cwd"))
            .is_ok_and(|cwd| holds(cwd.as_os_str().as_encoded_bytes()))
}
