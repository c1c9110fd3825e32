//! The rules for the entries of an archive, without the archive: their names, kinds, modes and sizes.
//!
//! A package has plain files and folders and nothing else. So unpacking it writes beneath one folder,
//! and gives the same files on each host.

use std::collections::{BTreeMap, BTreeSet};

/// Most entries of an archive.
pub const MAX_ENTRIES: usize = 10_000;
/// Size of all files.
pub const MAX_UNPACKED_BYTES: u64 = 1024 * 1024 * 1024;
/// How many times larger than the archive its files may be.
pub const MAX_UNPACK_RATIO: u64 = 200;
/// Files that are smaller together may have any ratio.
pub const MIN_RATIO_BYTES: u64 = 1024 * 1024;
/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 512;
/// Most parts of a path.
pub const MAX_PATH_DEPTH: usize = 32;
/// The setuid, setgid and sticky bits of a mode.
pub const SPECIAL_BITS: u32 = 0o7000;
/// Longest part of a path, in bytes.
const MAX_PART_BYTES: usize = 255;
/// Longest path that a message quotes, in characters.
const MAX_SHOWN_CHARS: usize = 128;

/// The kinds of entries that a package may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Folder,
}

/// Why an archive is no package. The messages are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    #[error("the path `{0}` leads out of the package")]
    Traversal(String),
    #[error("the path `{0}` is absolute")]
    Absolute(String),
    #[error(
        "the path `{0}` has a character other than letters, digits, spaces and punctuation of ASCII, or one of `\\ : * ? \" < > |`, or a part that ends with a dot or space"
    )]
    Characters(String),
    #[error("the path `{0}` is empty, longer than 512 bytes, or has more than 32 parts")]
    Length(String),
    #[error("`{0}` is a link; packages have plain files and folders only")]
    Link(String),
    #[error("`{0}` is neither a plain file nor a folder")]
    Special(String),
    #[error("`{0}` has a setuid, setgid or sticky bit")]
    Mode(String),
    #[error("`{0}` is in the archive twice")]
    Duplicate(String),
    #[error("`{0}` differs from another entry only in upper and lower case")]
    Case(String),
    #[error("`{0}` is a file, and a folder of other entries")]
    FileAsFolder(String),
    #[error("it has more than 10000 entries")]
    Count,
    #[error("its files have more than 1 GiB")]
    Total,
    #[error("its files are more than 200 times larger than the archive")]
    Ratio,
    #[error("it has no file `{0}`")]
    NoFile(String),
}

impl EntryProblem {
    /// The stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Traversal(_) => "path_traversal",
            Self::Absolute(_) => "path_absolute",
            Self::Characters(_) => "path_characters",
            Self::Length(_) => "path_length",
            Self::Link(_) => "link",
            Self::Special(_) => "special_file",
            Self::Mode(_) => "special_mode",
            Self::Duplicate(_) => "duplicate",
            Self::Case(_) => "case_collision",
            Self::FileAsFolder(_) => "file_as_folder",
            Self::Count => "too_many_entries",
            Self::Total => "too_large",
            Self::Ratio => "ratio",
            Self::NoFile(_) => "file_missing",
        }
    }

    fn of(kind: fn(String) -> Self, path: &str) -> Self {
        let visible = path.chars().map(|char| if is_plain(char) { char } else { '?' });
        kind(visible.take(MAX_SHOWN_CHARS).collect())
    }

    /// A link with this path.
    pub fn link(path: &str) -> Self {
        Self::of(Self::Link, path)
    }

    /// An entry with this path that has one of [`SPECIAL_BITS`].
    pub fn mode(path: &str) -> Self {
        Self::of(Self::Mode, path)
    }

    /// An entry with this path that is neither a file nor a folder.
    pub fn special(path: &str) -> Self {
        Self::of(Self::Special, path)
    }
}

/// The entries of an archive so far.
#[derive(Debug)]
pub struct Entries {
    archive_bytes: u64,
    unpacked_bytes: u64,
    count: usize,
    /// By the lower-case path: the path, and whether it is a file. Folders of entries are in it too.
    paths: BTreeMap<String, (String, EntryKind)>,
    /// Folders that the archive has entries for.
    folders: BTreeSet<String>,
}

impl Entries {
    /// The entries of an archive of this size.
    pub fn of_archive(archive_bytes: u64) -> Self {
        Self {
            archive_bytes,
            unpacked_bytes: 0,
            count: 0,
            paths: BTreeMap::new(),
            folders: BTreeSet::new(),
        }
    }

    /// Adds the next entry. `mode`: its permissions, 0 if the archive has none.
    ///
    /// # Errors
    /// [`EntryProblem`]
    pub fn add(&mut self, path: &str, kind: EntryKind, mode: u32) -> Result<(), EntryProblem> {
        self.count_one()?;
        let path = match kind {
            EntryKind::Folder => path.strip_suffix('/').unwrap_or(path),
            EntryKind::File => path,
        };
        check_path(path)?;
        if mode & SPECIAL_BITS != 0 {
            return Err(EntryProblem::mode(path));
        }
        for (end, _) in path.match_indices('/') {
            self.add_folder(&path[..end])?;
        }
        let is_repeated = match kind {
            EntryKind::Folder => {
                self.add_folder(path)?;
                !self.folders.insert(path.to_owned())
            }
            EntryKind::File => {
                let known = self.paths.insert(path.to_lowercase(), (path.to_owned(), kind));
                match known {
                    None => false,
                    Some((other, _)) if other != path => {
                        return Err(EntryProblem::of(EntryProblem::Case, path));
                    }
                    Some((_, EntryKind::Folder)) => {
                        return Err(EntryProblem::of(EntryProblem::FileAsFolder, path));
                    }
                    Some((_, EntryKind::File)) => true,
                }
            }
        };
        if is_repeated {
            return Err(EntryProblem::of(EntryProblem::Duplicate, path));
        }
        Ok(())
    }

    /// Counts an entry that is no file or folder of its own, such as the long name of the next one.
    ///
    /// # Errors
    /// [`EntryProblem::Count`]
    pub fn count_one(&mut self) -> Result<(), EntryProblem> {
        self.count += 1;
        if self.count > MAX_ENTRIES { Err(EntryProblem::Count) } else { Ok(()) }
    }

    /// Adds bytes that were unpacked. Call it before they are stored.
    ///
    /// # Errors
    /// [`EntryProblem::Total`] or [`EntryProblem::Ratio`].
    pub fn add_bytes(&mut self, bytes: u64) -> Result<(), EntryProblem> {
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(bytes);
        if self.unpacked_bytes > MAX_UNPACKED_BYTES {
            return Err(EntryProblem::Total);
        }
        let most = self.archive_bytes.saturating_mul(MAX_UNPACK_RATIO).max(MIN_RATIO_BYTES);
        if self.unpacked_bytes > most { Err(EntryProblem::Ratio) } else { Ok(()) }
    }

    /// Checks that a file is there, in exactly this spelling.
    ///
    /// # Errors
    /// [`EntryProblem::NoFile`]
    pub fn require_file(&self, path: &str) -> Result<(), EntryProblem> {
        match self.paths.get(&path.to_lowercase()) {
            Some((known, EntryKind::File)) if known == path => Ok(()),
            _ => Err(EntryProblem::of(EntryProblem::NoFile, path)),
        }
    }

    /// Size of all files.
    pub fn unpacked_bytes(&self) -> u64 {
        self.unpacked_bytes
    }

    /// Number of entries.
    pub fn count(&self) -> usize {
        self.count
    }

    fn add_folder(&mut self, path: &str) -> Result<(), EntryProblem> {
        let known = self.paths.get(&path.to_lowercase());
        match known {
            None => {
                let entry = (path.to_owned(), EntryKind::Folder);
                self.paths.insert(path.to_lowercase(), entry);
                Ok(())
            }
            Some((other, _)) if other != path => Err(EntryProblem::of(EntryProblem::Case, path)),
            Some((_, EntryKind::Folder)) => Ok(()),
            Some((_, EntryKind::File)) => Err(EntryProblem::of(EntryProblem::FileAsFolder, path)),
        }
    }
}

/// Checks the path of a file or folder, without a `/` at its end.
///
/// # Errors
/// [`EntryProblem`]
pub fn check_path(path: &str) -> Result<(), EntryProblem> {
    if path.starts_with(['/', '\\']) {
        return Err(EntryProblem::of(EntryProblem::Absolute, path));
    }
    if path.split(['/', '\\']).any(|part| part == "..") {
        return Err(EntryProblem::of(EntryProblem::Traversal, path));
    }
    let parts = || path.split('/');
    if path.is_empty()
        || path.len() > MAX_PATH_BYTES
        || parts().count() > MAX_PATH_DEPTH
        || parts().any(|part| part.is_empty() || part.len() > MAX_PART_BYTES)
    {
        return Err(EntryProblem::of(EntryProblem::Length, path));
    }
    // The names are the same on each file system: no other letters, which some change, and nothing that
    // Windows reserves or drops.
    let is_usable = |char: char| is_plain(char) && !r#"\:*?"<>|"#.contains(char);
    if !path.chars().all(is_usable) || parts().any(|part| part.ends_with(['.', ' '])) {
        return Err(EntryProblem::of(EntryProblem::Characters, path));
    }
    Ok(())
}

fn is_plain(char: char) -> bool {
    char == ' ' || char.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    fn code(paths: &[(&str, EntryKind)]) -> Option<&'static str> {
        let mut entries = Entries::of_archive(1);
        let mut added = paths.iter().map(|(path, kind)| entries.add(path, *kind, 0o755));
        added.find_map(Result::err).map(|problem| problem.code())
    }

    #[test]
    fn each_rule_has_a_code() {
        use EntryKind::{File, Folder};
        let long = "a/".repeat(MAX_PATH_DEPTH) + "a";
        for (path, expected) in [
            ("a/b", None),
            ("..a/b..c/...d", None),
            ("../a", Some("path_traversal")),
            ("a/../b", Some("path_traversal")),
            ("a\\..\\b", Some("path_traversal")),
            ("..", Some("path_traversal")),
            ("/a", Some("path_absolute")),
            ("\\a", Some("path_absolute")),
            ("a\\b", Some("path_characters")),
            ("C:a", Some("path_characters")),
            ("a\nb", Some("path_characters")),
            ("ä", Some("path_characters")),
            ("a.", Some("path_characters")),
            (".", Some("path_characters")),
            ("", Some("path_length")),
            ("a//b", Some("path_length")),
            (&long, Some("path_length")),
        ] {
            assert_eq!(code(&[(path, File)]), expected, "{path:?}");
        }
        assert_eq!(code(&[("a", File), ("a", File)]), Some("duplicate"));
        assert_eq!(code(&[("a/", Folder), ("a", Folder)]), Some("duplicate"));
        assert_eq!(code(&[("a/b", File), ("a/", Folder)]), None);
        assert_eq!(code(&[("a/b", File), ("A/c", File)]), Some("case_collision"));
        assert_eq!(code(&[("a", File), ("A", Folder)]), Some("case_collision"));
        assert_eq!(code(&[("a", File), ("a/b", File)]), Some("file_as_folder"));
        assert_eq!(code(&[("a/b", File), ("a", File)]), Some("file_as_folder"));
        let mut entries = Entries::of_archive(1);
        let setuid = entries.add("a", File, 0o4755).expect_err("refused");
        assert_eq!(setuid.code(), "special_mode");
    }

    #[test]
    fn bombs_are_refused_by_count_total_and_ratio() {
        let mut entries = Entries::of_archive(10);
        for n in 0..MAX_ENTRIES {
            entries.add(&n.to_string(), EntryKind::File, 0).expect("there is room");
        }
        assert_eq!(entries.add("x", EntryKind::File, 0), Err(EntryProblem::Count));
        assert_eq!(entries.add_bytes(MIN_RATIO_BYTES), Ok(()));
        assert_eq!(entries.add_bytes(1), Err(EntryProblem::Ratio));
        let mut large = Entries::of_archive(MAX_UNPACKED_BYTES);
        assert_eq!(large.add_bytes(MAX_UNPACKED_BYTES), Ok(()));
        assert_eq!(large.add_bytes(1), Err(EntryProblem::Total));
    }

    #[test]
    fn an_entry_must_be_a_file_in_this_spelling() {
        let mut entries = Entries::of_archive(1);
        entries.add("bin/run.sh", EntryKind::File, 0).expect("added");
        assert_eq!(entries.require_file("bin/run.sh"), Ok(()));
        for wrong in ["bin", "bin/Run.sh", "run.sh", ""] {
            assert_eq!(entries.require_file(wrong).expect_err(wrong).code(), "file_missing");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_beneath_its_folder(path in "[a-zA-Z./\\\\ü:\\x00-\\x1f ]{0,40}") {
            if check_path(&path).is_ok() {
                let parts: Vec<_> = Path::new(&path).components().collect();
                prop_assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(parts.len(), path.split('/').count());
            }
        }

        #[test]
        fn accepted_entries_are_distinct_on_every_file_system(
            paths in prop::collection::vec(("[aAbB]{1,2}(/[aAbB]{1,2}){0,2}", any::<bool>()), 0..12)
        ) {
            let mut entries = Entries::of_archive(1);
            let mut files = BTreeSet::new();
            let mut folders = BTreeSet::new();
            for (path, is_file) in &paths {
                let kind = if *is_file { EntryKind::File } else { EntryKind::Folder };
                if entries.add(path, kind, 0o644).is_err() {
                    // After a refusal an archive is not read any further.
                    break;
                }
                if *is_file {
                    prop_assert!(files.insert(path.to_lowercase()), "{path}");
                } else {
                    folders.insert(path.to_lowercase());
                }
                folders.extend(path.match_indices('/').map(|(end, _)| path[..end].to_lowercase()));
                prop_assert!(files.is_disjoint(&folders), "{files:?} {folders:?}");
            }
        }
    }
}
