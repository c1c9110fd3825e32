//! SHA-256 sums of files, each read once and again when it has changed. Knows nothing of what the files
//! are for.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ring::digest::{Context, SHA256};

/// The sums of files that were asked for. Its keeper bounds how many those are, and forgets what is
/// gone.
#[derive(Debug, Default)]
pub(super) struct FileSums {
    known: Mutex<HashMap<PathBuf, Sum>>,
}

/// The sum of a file as it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    modified: Option<SystemTime>,
    sha256: String,
}

impl FileSums {
    /// The hex SHA-256 of a file. Blocks.
    pub fn of(&self, path: &Path) -> io::Result<String> {
        let metadata = fs::metadata(path)?;
        let known = self.known().get(path).cloned();
        if let Some(known) = known.filter(|known| known.is_of(&metadata)) {
            return Ok(known.sha256);
        }
        let sha256 = hash(path)?;
        let (bytes, modified) = (metadata.len(), metadata.modified().ok());
        self.known().insert(path.to_owned(), Sum { bytes, modified, sha256: sha256.clone() });
        Ok(sha256)
    }

    /// Forgets what lies within a folder.
    pub fn forget(&self, folder: &Path) {
        self.known().retain(|path, _| !path.starts_with(folder));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, Sum>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sum {
    fn is_of(&self, metadata: &Metadata) -> bool {
        self.bytes == metadata.len()
            && self.modified.is_some()
            && self.modified == metadata.modified().ok()
    }
}

fn hash(path: &Path) -> io::Result<String> {
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
