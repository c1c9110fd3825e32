//! Output on disk: whole records, a running hash, and never a reason for the child to wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::frame::ExecuteResult;
use muster_protocol::frame::output::{RECORD_HEADER_BYTES, Stream, record_header};
use muster_protocol::limits::MAX_OUTPUT_RECORD_BYTES;
use ring::digest;

use super::note;

/// Output written between two looks at what all jobs of the host keep together.
const QUOTA_STEP_BYTES: u64 = 8 * 1024 * 1024;

/// Bounds on what is kept.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Payload of this execution.
    pub limit_bytes: u64,
    /// Files of all executions together.
    pub quota_bytes: u64,
    /// The folder of all jobs.
    pub jobs: PathBuf,
}

/// Writes one execution's output.
pub struct Recorder {
    file: Option<File>,
    bounds: Bounds,
    hash: digest::Context,
    /// Of whole records in the file, headers included.
    file_bytes: u64,
    checked_at: Option<u64>,
    stdout_bytes: u64,
    stderr_bytes: u64,
    dropped_bytes: u64,
    is_cut: bool,
    buffer: Box<[u8]>,
}

impl Recorder {
    /// Opens an empty output file. If that fails everything is dropped and counted.
    pub fn create(path: &Path, bounds: Bounds) -> Self {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        if let Err(error) = &file {
            note(format_args!("output is not kept: {error}"));
        }
        Self {
            file: file.ok(),
            bounds,
            hash: digest::Context::new(&digest::SHA256),
            file_bytes: 0,
            checked_at: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            dropped_bytes: 0,
            is_cut: false,
            buffer: vec![0; RECORD_HEADER_BYTES + MAX_OUTPUT_RECORD_BYTES].into_boxed_slice(),
        }
    }

    /// Where the next read goes.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[RECORD_HEADER_BYTES..]
    }

    /// Keeps what was read into [`Recorder::space`], or counts it as dropped. What is kept is a
    /// prefix of what was read: after the first drop nothing is kept any more.
    pub fn record(&mut self, stream: Stream, read_bytes: usize) {
        let kept = if self.dropped_bytes > 0 { 0 } else { self.room_for(read_bytes) };
        let kept = if kept > 0 && self.append(stream, kept).is_ok() { kept } else { 0 };
        self.dropped_bytes += (read_bytes - kept) as u64;
        match stream {
            Stream::Stdout => self.stdout_bytes += kept as u64,
            Stream::Stderr => self.stderr_bytes += kept as u64,
        }
    }

    /// Notes that output may be missing that was never read.
    pub fn note_unread(&mut self) {
        self.is_cut = true;
    }

    /// Makes the output durable and says what it is.
    pub fn finish(self, duration_ms: u64) -> ExecuteResult {
        let synced = self.file.as_ref().map(File::sync_data);
        if !matches!(synced, Some(Ok(()))) {
            note(format_args!("output could not be synced: {synced:?}"));
        }
        ExecuteResult {
            exit_code: None,
            signal: None,
            duration_ms,
            output_bytes: self.stdout_bytes + self.stderr_bytes,
            stdout_bytes: self.stdout_bytes,
            stderr_bytes: self.stderr_bytes,
            dropped_bytes: self.dropped_bytes,
            output_complete: self.dropped_bytes == 0 && !self.is_cut,
            output_sha256: Some(hex::encode(self.hash.finish())),
        }
    }

    fn append(&mut self, stream: Stream, payload: usize) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let bytes = &mut self.buffer[..RECORD_HEADER_BYTES + payload];
        bytes[..RECORD_HEADER_BYTES].copy_from_slice(&record_header(stream, payload as u32));
        if let Err(error) = file.write_all(bytes) {
            // Half a record is no record.
            let _ = file.set_len(self.file_bytes);
            note(format_args!("output is dropped from here on: {error}"));
            return Err(error);
        }
        self.hash.update(&bytes[RECORD_HEADER_BYTES..]);
        self.file_bytes += bytes.len() as u64;
        Ok(())
    }

    fn room_for(&mut self, payload: usize) -> usize {
        let kept = self.stdout_bytes + self.stderr_bytes;
        if self.checked_at.is_none_or(|at| kept >= at + QUOTA_STEP_BYTES) {
            self.checked_at = Some(kept);
            if output_of_all(&self.bounds.jobs) >= self.bounds.quota_bytes {
                note("output is dropped from here on: the host's share for output is used up");
                return 0;
            }
        }
        let room = self.bounds.limit_bytes.saturating_sub(kept);
        usize::try_from(room).unwrap_or(usize::MAX).min(payload)
    }
}

/// Bytes of all output files under the folder of jobs.
fn output_of_all(jobs: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(jobs) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| fs::metadata(entry.path().join("output")).ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::frame::output::records_of;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_a_prefix_with_its_hash_and_the_rest_is_counted(
            writes in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..400)), 0..20),
            limit_bytes in 0u64..3000,
        ) {
            let folder = tempfile::tempdir().expect("temporary folder");
            let path = folder.path().join("output");
            let bounds = Bounds { limit_bytes, quota_bytes: u64::MAX, jobs: folder.path().into() };
            let mut recorder = Recorder::create(&path, bounds);
            let mut all = Vec::new();
            for (is_stderr, bytes) in &writes {
                recorder.space()[..bytes.len()].copy_from_slice(bytes);
                let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
                recorder.record(stream, bytes.len());
                all.extend_from_slice(bytes);
            }
            let result = recorder.finish(0);
            let kept = all.len().min(limit_bytes as usize);
            let file = fs::read(&path).expect("written");
            let payload: Vec<u8> = records_of(&file)
                .flat_map(|record| record.expect("whole").payload.to_vec())
                .collect();
            prop_assert_eq!(&payload, &all[..kept]);
            prop_assert_eq!(result.output_bytes, kept as u64);
            prop_assert_eq!(result.dropped_bytes, (all.len() - kept) as u64);
            prop_assert_eq!(result.output_complete, kept == all.len());
            let hash = hex::encode(digest::digest(&digest::SHA256, &all[..kept]));
            prop_assert_eq!(result.output_sha256, Some(hash));
        }
    }
}
