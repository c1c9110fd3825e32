//! The files of a log: two of bounded size. When the newer one is full it replaces the older one, or both are
//! summarised in the older one.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::record::{RequestKind, RequestRecord};
use crate::storage::layout::StateDir;

/// Size at which a file is set aside, in bytes.
pub const MAX_FILE_BYTES: u64 = 512 * 1024;
/// Lines that a summary keeps at most; those of one kind have an equal part of them.
const MAX_SUMMARY_LINES: usize = 128;

/// What happens with the older lines of a log that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Drop,
    /// The newest lines of each kind of request and refusal stay, and the others are counted: no flood of one
    /// kind pushes out another.
    Summarise,
}

/// One log of two files.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    full: Full,
    file: Option<File>,
    bytes: u64,
}

impl LogFile {
    pub fn new(path: PathBuf, full: Full) -> Self {
        Self { path, full, file: None, bytes: 0 }
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
            match self.full {
                Full::Drop => fs::rename(&self.path, older(&self.path))?,
                Full::Summarise => summarise(&self.path)?,
            }
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

/// Replaces the older file by a summary of both.
fn summarise(path: &Path) -> io::Result<()> {
    let mut kinds: BTreeMap<RequestKind, VecDeque<RequestRecord>> = BTreeMap::new();
    let mut records = Vec::new();
    for path in [&older(path), path] {
        records.append(&mut read_all(path)?);
    }
    for record in records {
        kinds.entry(record.kind()).or_default().push_back(record);
    }
    let most = (MAX_SUMMARY_LINES / kinds.len().max(1)).max(1);
    for kind in kinds.values_mut() {
        while kind.len() > most
            && let (Some(dropped), Some(next)) = (kind.pop_front(), kind.front_mut())
        {
            next.unlisted = next.unlisted.saturating_add(dropped.unlisted).saturating_add(1);
        }
    }
    let mut kept: Vec<_> = kinds.into_values().flatten().take(MAX_SUMMARY_LINES).collect();
    kept.sort_by_key(|record| record.at);
    let mut text = Vec::new();
    for record in kept {
        serde_json::to_writer(&mut text, &record)?;
        text.push(b'\n');
    }
    let new = path.with_extension("log.new");
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(&new, older(path))?;
    fs::remove_file(path)
}

/// The records of one file, oldest first. Lines that can't be read are skipped.
fn read_all(path: &Path) -> io::Result<Vec<RequestRecord>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
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
            let records = read_all(path)?.into_iter().rev();
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
