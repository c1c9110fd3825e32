//! The names in a backup file. An archive may be hostile, so only names of this layout are taken.

use std::path::PathBuf;

use super::{HEADER, MANIFEST};

/// The files with master keys that a backup may have.
pub const KEY_NAMES: [&str; 2] = ["master.key", "master.key.next"];
/// The name of the SQLite database.
const DATABASE: &str = "database.sqlite";
/// Folders of the data directory that a backup contains.
const FOLDERS: [&str; 3] = ["output", "releases", "install"];
/// Most parts of a path.
const MAX_PATH_PARTS: usize = 8;

/// A name, and where its content belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryName {
    Header,
    /// The SQLite database.
    Database,
    /// Rows of a table of PostgreSQL.
    Table(String),
    /// A file, relative to the data directory and never outside of it.
    File(PathBuf),
    /// One of [`KEY_NAMES`].
    Key(&'static str),
    Manifest,
}

impl EntryName {
    /// Reads a name; `None` if it does not belong into a backup.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            HEADER => return Some(Self::Header),
            MANIFEST => return Some(Self::Manifest),
            DATABASE => return Some(Self::Database),
            _ => {}
        }
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > MAX_PATH_PARTS || !parts.iter().all(|part| is_plain(part)) {
            return None;
        }
        match parts[..] {
            ["tables", table, _number] => Some(Self::Table(table.to_owned())),
            ["keys", key] => KEY_NAMES.into_iter().find(|known| *known == key).map(Self::Key),
            ["files", folder, _, ..] if FOLDERS.contains(&folder) => {
                Some(Self::File(parts[1..].iter().collect()))
            }
            _ => None,
        }
    }
}

/// True for a part of a path that can't lead elsewhere.
fn is_plain(part: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-~@=".contains(&byte);
    !part.is_empty()
        && part != "."
        && part != ".."
        && part.len() <= 100
        && part.bytes().all(is_allowed)
}
