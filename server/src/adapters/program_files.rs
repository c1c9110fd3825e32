//! The programs that hosts are given: files on the server's disk. Knows no requests.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use muster_protocol::release::{Platform, Program};
use ring::digest::{Context, SHA256};

/// A program's file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}", path.display())]
pub struct UnreadableProgram {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Where the programs lie: `<folder>/<platform>/<name>`, and for the server's own platform, where
/// that has none, beside the server's own program.
#[derive(Debug)]
pub struct ProgramFiles {
    folder: PathBuf,
    beside: Option<PathBuf>,
    /// One entry a platform and program at most.
    sums: Mutex<HashMap<(Platform, Program), Sum>>,
}

/// The sum of a file as it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
    sha256: String,
}

impl ProgramFiles {
    /// Looks into `folder`, and beside the program that runs.
    pub fn new(folder: PathBuf) -> Self {
        let program = std::env::current_exe().ok();
        let beside = program.and_then(|program| program.parent().map(Path::to_owned));
        Self { folder, beside, sums: Mutex::default() }
    }

    /// The file to hand out; `None` if there is none for that platform.
    pub fn find(&self, platform: Platform, program: Program) -> Option<PathBuf> {
        let placed = self.folder.join(platform.to_string()).join(program.file_name());
        let own = self.beside.as_ref().filter(|_| Platform::own() == Some(platform));
        let beside = own.map(|folder| folder.join(program.file_name()));
        [Some(placed), beside].into_iter().flatten().find(|path| path.is_file())
    }

    /// The platforms for which every program is there.
    pub fn platforms(&self) -> Vec<Platform> {
        let is_whole = |platform: &Platform| {
            Program::ALL.iter().all(|program| self.find(*platform, *program).is_some())
        };
        Platform::all().filter(is_whole).collect()
    }

    /// Each program of a platform with the hex SHA-256 of its file, which is read once and again
    /// when it has changed. Blocks.
    ///
    /// # Errors
    /// [`UnreadableProgram`]
    pub fn sums(&self, platform: Platform) -> Result<Vec<(Program, String)>, UnreadableProgram> {
        let mut found = Vec::new();
        for program in Program::ALL {
            let Some(path) = self.find(platform, program) else { continue };
            let sum = self
                .sum((platform, program), &path)
                .map_err(|source| UnreadableProgram { path, source })?;
            found.push((program, sum));
        }
        Ok(found)
    }

    fn sum(&self, which: (Platform, Program), path: &Path) -> io::Result<String> {
        let metadata = fs::metadata(path)?;
        let known = self.sums.lock().unwrap_or_else(PoisonError::into_inner).get(&which).cloned();
        if let Some(known) = known.filter(|known| known.is_of(path, &metadata)) {
            return Ok(known.sha256);
        }
        let sha256 = hash(path)?;
        let sum = Sum {
            path: path.to_owned(),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            sha256: sha256.clone(),
        };
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).insert(which, sum);
        Ok(sha256)
    }
}

impl Sum {
    fn is_of(&self, path: &Path, metadata: &Metadata) -> bool {
        self.path == path
            && self.bytes == metadata.len()
            && self.modified.is_some()
            && self.modified == metadata.modified().ok()
    }
}

pub(super) fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(context.finish())),
            read => context.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_where_it_was_placed_and_its_sum_follows_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ProgramFiles { beside: None, ..ProgramFiles::new(folder.path().to_owned()) };
        let platform = Platform::parse("linux-riscv64").expect("known");
        assert!(files.platforms().is_empty());

        let place = folder.path().join("linux-riscv64");
        fs::create_dir(&place).expect("made");
        fs::write(place.join("muster-agent"), "abc").expect("written");
        assert!(files.platforms().is_empty(), "the supervisor is missing");
        fs::write(place.join("muster-supervisor"), "").expect("written");
        assert_eq!(files.platforms(), [platform]);

        let agent = || files.sums(platform).expect("readable")[0].1.clone();
        assert!(agent().starts_with("ba7816bf"));
        fs::write(place.join("muster-agent"), "another").expect("written");
        assert!(!agent().starts_with("ba7816bf"));
    }
}
