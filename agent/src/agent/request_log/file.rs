//! The files of a log: two of bounded size, the newer one replaces the older one when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::record::RequestRecord;
use crate::storage::layout::StateDir;

/// Size at which a file is set aside, in bytes.
pub const MAX_FILE_BYTES: u64 = 512 * 1024;
/// One log of two files.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl LogFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes: 0 }
    }

    pub fn append(&mut self, record: &RequestRecord, is_synced: bool) {
        if let Err(error) = self.write(record, is_synced) {
            self.file = None;
            tracing::warn!(path = %self.path.display(), %error, "failed to record a request");
        }
    }

    fn write(&mut self, record: &RequestRecord, is_synced: bool) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if self.bytes >= MAX_FILE_BYTES {
            self.file = None;
            fs::rename(&self.path, older(&self.path))?;
        }
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let file = options.create(true).append(true).mode(0o600).open(&self.path)?;
            self.bytes = file.metadata()?.len();
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&line)?;
        self.bytes += line.len() as u64;
        if is_synced { file.sync_data() } else { Ok(()) }
    }
}

/// The newest records of all logs, newest first. Lines that can't be read are skipped.
///
/// # Errors
/// The system's error for a file that exists.
pub fn read_newest(state: &StateDir, count: usize) -> io::Result<Vec<RequestRecord>> {
    let mut newest = Vec::new();
    for log in state.requests() {
        let mut of_log = Vec::new();
        for path in [&log, &older(&log)] {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let lines = bytes.split(|byte| *byte == b'\n').rev();
            let records = lines.filter_map(|line| serde_json::from_slice(line).ok());
            of_log.extend(records.take(count - of_log.len()));
        }
        newest.append(&mut of_log);
    }
    newest.sort_by_key(|record: &RequestRecord| std::cmp::Reverse(record.at));
    newest.truncate(count);
    Ok(newest)
}

pub fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}
