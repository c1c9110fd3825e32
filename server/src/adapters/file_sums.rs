//! Cached SHA-256 checksums of files. A file is read again when it has changed.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

/// The cached checksums. The owner limits how many files are requested, and forgets deleted ones.
#[derive(Debug, Default)]
pub(super) struct FileSums {
    known: Mutex<HashMap<PathBuf, Sum>>,
}

/// The checksum of a file in the state at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    modified: Option<SystemTime>,
    sha256: String,
}

impl FileSums {
    /// The SHA-256 of a file in hex. Blocks.
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

    /// Forgets the files in a directory.
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
            0 => return Ok(HEXLOWER.encode(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}
