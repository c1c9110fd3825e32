//! The programs that hosts download: files on the server's disk.

use std::io;
use std::path::{Path, PathBuf};

use muster_protocol::release::{Platform, Program};

use super::file_sums::FileSums;

/// Failed to read a program's file.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {}", path.display())]
pub struct UnreadableProgram {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The programs in `<dir>/<platform>/<name>`. Programs for the server's own platform that are
/// missing there are taken from the directory of the server's executable.
#[derive(Debug)]
pub struct ProgramFiles {
    folder: PathBuf,
    beside: Option<PathBuf>,
    /// At most two files for each platform and program.
    sums: FileSums,
}

impl ProgramFiles {
    /// Uses `folder`, and the directory of the running executable.
    pub fn new(folder: PathBuf) -> Self {
        let program = std::env::current_exe().ok();
        let beside = program.and_then(|program| program.parent().map(Path::to_owned));
        Self { folder, beside, sums: FileSums::default() }
    }

    /// The file to send; `None` if there is none for that platform.
    pub fn find(&self, platform: Platform, program: Program) -> Option<PathBuf> {
        let placed = self.folder.join(platform.to_string()).join(program.file_name());
        let own = self.beside.as_ref().filter(|_| Platform::own() == Some(platform));
        let beside = own.map(|folder| folder.join(program.file_name()));
        [Some(placed), beside].into_iter().flatten().find(|path| path.is_file())
    }

    /// The platforms that have every program.
    pub fn platforms(&self) -> Vec<Platform> {
        let is_whole = |platform: &Platform| {
            Program::ALL.iter().all(|program| self.find(*platform, *program).is_some())
        };
        Platform::all().filter(is_whole).collect()
    }

    /// Each program of a platform with the SHA-256 of its file in hex. A file is read once, and
    /// again when it has changed. Blocks.
    ///
    /// # Errors
    /// [`UnreadableProgram`]
    pub fn sums(&self, platform: Platform) -> Result<Vec<(Program, String)>, UnreadableProgram> {
        let mut found = Vec::new();
        for program in Program::ALL {
            let Some(path) = self.find(platform, program) else { continue };
            let sum = self.sums.of(&path).map_err(|source| UnreadableProgram { path, source })?;
            found.push((program, sum));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_found_in_its_directory_and_its_checksum_follows_changes() {
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
