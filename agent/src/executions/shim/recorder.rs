//! Stores output as complete records with a running hash, and never blocks the child.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use muster_protocol::frame::ExecuteResult;
use muster_protocol::frame::output::{RECORD_HEADER_BYTES, Stream, record_header};
use muster_protocol::limits::MAX_OUTPUT_RECORD_BYTES;

use super::log::Log;
use super::spool::{LINE_BYTES, OutputSpool};
use crate::executions::ledger::checkpoints::{self, Checkpoint, CheckpointWriter};
use crate::executions::output_hashes::OutputHashes;
use crate::executions::output_release;
use crate::storage::layout::ExecutionDir;

/// Output written between two checks of the quota for all executions.
const QUOTA_STEP_BYTES: u64 = 8 * 1024 * 1024;
/// Output that every execution may store without a quota check, which costs more than a short
/// execution prints.
const QUOTA_FREE_BYTES: u64 = 64 * 1024;
/// Less free buffer space than this is not worth a read.
const SMALL_READ_BYTES: usize = 4 * 1024;

/// Limits on stored output.
#[derive(Debug, Clone)]
pub struct RecorderLimits {
    /// Maximum payload of this execution.
    pub limit_bytes: u64,
    /// Maximum size of the output files of all executions together.
    pub quota_bytes: u64,
    /// The folder of all executions.
    pub executions: PathBuf,
    /// Of a service: what its file may take. The agent releases what the server has stored, so that the output
    /// goes on after it was full.
    pub spool_bytes: Option<u64>,
}

/// Writes the output of one execution.
///
/// Output is buffered and becomes a record when the buffer is full, when the other stream has
/// output, or when the agent is notified: a child that prints byte by byte must not cost one record
/// per byte.
pub struct Recorder {
    file: Option<File>,
    marker: CheckpointWriter,
    log: Log,
    limits: RecorderLimits,
    hashes: OutputHashes,
    /// Size of the complete records in the file, headers included.
    file_bytes: u64,
    /// Payload that may be stored before the quota is checked again.
    check_at: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    dropped_bytes: u64,
    is_cut: bool,
    /// Of a service.
    spool: Option<OutputSpool>,
    /// Space for a header, then the output read from `stream`.
    buffer: Box<[u8]>,
    stream: Stream,
    filled: usize,
}

impl Recorder {
    /// Creates an empty output file. If that fails, all output is dropped and counted.
    pub fn create(execution: &ExecutionDir, limits: RecorderLimits) -> Self {
        let log = Log::of(execution);
        let path = execution.output();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        if let Err(error) = &file {
            log.line(format_args!("output is not stored: {error}"));
        }
        let spool = limits.spool_bytes.map(|bytes| OutputSpool::new(&path, bytes));
        let every_bytes =
            spool.as_ref().map_or(checkpoints::EVERY_BYTES, OutputSpool::checkpoint_bytes);
        Self {
            file: file.ok(),
            marker: CheckpointWriter::new(&path, every_bytes),
            log,
            spool,
            limits,
            hashes: OutputHashes::default(),
            file_bytes: 0,
            check_at: QUOTA_FREE_BYTES,
            stdout_bytes: 0,
            stderr_bytes: 0,
            dropped_bytes: 0,
            is_cut: false,
            buffer: vec![0; RECORD_HEADER_BYTES + MAX_OUTPUT_RECORD_BYTES].into_boxed_slice(),
            stream: Stream::Stdout,
            filled: 0,
        }
    }

    /// The buffer for the next read from this stream; never empty.
    pub fn buffer_for(&mut self, stream: Stream) -> &mut [u8] {
        if self.stream != stream || self.filled + SMALL_READ_BYTES > MAX_OUTPUT_RECORD_BYTES {
            self.flush();
        }
        self.stream = stream;
        &mut self.buffer[RECORD_HEADER_BYTES + self.filled..]
    }

    /// Accepts output that was read into [`Recorder::buffer_for`].
    pub fn record(&mut self, read_bytes: usize) {
        self.filled += read_bytes;
        if self.filled == MAX_OUTPUT_RECORD_BYTES {
            self.flush();
        }
    }

    /// Accepts output that was not read into [`Recorder::buffer_for`].
    pub fn record_bytes(&mut self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.buffer_for(stream);
            let (now, later) = bytes.split_at(bytes.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            self.record(now.len());
            bytes = later;
        }
    }

    /// Stores the buffered output or counts it as dropped. The stored output is a prefix of the
    /// whole: after the first drop nothing more is stored. Only the output of a service goes on when there is
    /// space again: its newest part is held until then, after a line that says how much is missing before it.
    pub fn flush(&mut self) {
        let read_bytes = std::mem::take(&mut self.filled);
        if read_bytes == 0 {
            return;
        }
        if self.spool.is_some() {
            if !(self.store_held(read_bytes) && self.append(read_bytes).is_ok()) {
                self.hold(read_bytes);
            }
        } else {
            let kept = if self.dropped_bytes > 0 { 0 } else { self.payload_to_keep(read_bytes) };
            let kept = if kept > 0 && self.append(kept).is_ok() { kept } else { 0 };
            self.dropped_bytes += (read_bytes - kept) as u64;
        }
        self.note_checkpoint();
    }

    /// Stores what waits for space, if there is some now. True if it stored anything.
    pub fn store_waiting(&mut self) -> bool {
        let before = self.file_bytes;
        if self.is_waiting() && self.filled == 0 {
            // As if the bound of the quota were reached, so that the quota is checked.
            self.check_at = 0;
            self.store_held(0);
            self.note_checkpoint();
        }
        self.file_bytes > before
    }

    /// True if output of a service waits for space.
    pub fn is_waiting(&self) -> bool {
        self.spool.as_ref().is_some_and(OutputSpool::is_waiting)
    }

    fn note_checkpoint(&mut self) {
        self.marker.note(Checkpoint {
            position: self.file_bytes,
            stdout_bytes: self.stdout_bytes,
            stderr_bytes: self.stderr_bytes,
        });
    }

    /// Keeps the buffered output of a service in memory, instead of what is held for the longest time.
    fn hold(&mut self, payload: usize) {
        let bytes = &self.buffer[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload];
        if let Some(spool) = &mut self.spool {
            self.dropped_bytes += spool.hold(self.stream, bytes);
        }
    }

    /// Stores what is held, if there is space for it and a further record. True if the record may be appended.
    fn store_held(&mut self, payload: usize) -> bool {
        let produced = self.stored_bytes() + self.dropped_bytes;
        if produced + payload as u64 > self.check_at {
            self.check_at = produced + QUOTA_STEP_BYTES;
            let is_over = output_of_all(&self.limits.executions) >= self.limits.quota_bytes;
            if let Some(spool) = &mut self.spool {
                spool.is_over_quota = is_over;
            }
        }
        let (file_bytes, stored_bytes) = (self.file_bytes, self.stored_bytes());
        let Some(spool) = &mut self.spool else { return false };
        // With space for the line before it, and for the one at the end.
        let needed_bytes = payload as u64 + spool.held_bytes() + 2 * LINE_BYTES;
        let is_within_limit = stored_bytes + needed_bytes <= self.limits.limit_bytes;
        is_within_limit && spool.admits(file_bytes, payload) && self.append_held().is_ok()
    }

    /// Stores the line about what is missing, and what is held after it.
    fn append_held(&mut self) -> io::Result<()> {
        self.append_missing()?;
        while let Some((stream, payload)) = self.spool.as_mut().and_then(OutputSpool::take_held) {
            let header = record_header(stream, payload.len() as u32);
            if let Err(error) = self.write(&[&header, &*payload].concat()) {
                if let Some(spool) = &mut self.spool {
                    spool.put_back((stream, payload));
                }
                return Err(error);
            }
            self.count(stream, payload.len());
            self.hashes.update(stream, &payload);
        }
        Ok(())
    }

    fn count(&mut self, stream: Stream, payload: usize) {
        match stream {
            Stream::Stdout => self.stdout_bytes += payload as u64,
            Stream::Stderr => self.stderr_bytes += payload as u64,
        }
    }

    /// Stores the line that says how much was dropped since the last record, if any was.
    fn append_missing(&mut self) -> io::Result<()> {
        let Some(line) = self.spool.as_ref().and_then(OutputSpool::missing_line) else {
            return Ok(());
        };
        let record = [&record_header(Stream::Stderr, line.len() as u32), line.as_bytes()].concat();
        self.write(&record)?;
        self.hashes.update(Stream::Stderr, line.as_bytes());
        self.count(Stream::Stderr, line.len());
        if let Some(spool) = &mut self.spool {
            spool.note_line();
        }
        Ok(())
    }

    /// Payload of the complete records, both streams.
    pub fn stored_bytes(&self) -> u64 {
        self.stdout_bytes + self.stderr_bytes
    }

    /// Records that some output may never have been read.
    pub fn mark_incomplete(&mut self) {
        self.is_cut = true;
    }

    /// Makes the output durable and returns its statistics.
    pub fn finish(mut self, duration_ms: u64) -> ExecuteResult {
        self.flush();
        if let Some(spool) = self.spool.as_mut().filter(|spool| spool.is_over_quota) {
            self.dropped_bytes += spool.drop_held();
        }
        // A little more than the bound, so that the output has its end, and says what is missing before it.
        if self.append_held().is_err()
            && let Some(spool) = &mut self.spool
        {
            self.dropped_bytes += spool.drop_held();
        }
        // An empty file has nothing to sync.
        let synced = self.file.as_ref().filter(|_| self.file_bytes > 0).map(File::sync_data);
        if let Some(Err(error)) = synced {
            self.log.line(format_args!("failed to sync output: {error}"));
            self.is_cut = true;
        }
        let hashes = self.hashes;
        hashes.into_result(ExecuteResult {
            exit_code: None,
            signal: None,
            duration_ms,
            output_bytes: self.stdout_bytes + self.stderr_bytes,
            stdout_bytes: self.stdout_bytes,
            stderr_bytes: self.stderr_bytes,
            dropped_bytes: self.dropped_bytes,
            output_complete: self.dropped_bytes == 0 && !self.is_cut,
            output_sha256: None,
            stdout_sha256: None,
            stderr_sha256: None,
            steps: Vec::new(),
            rehearsal: None,
        })
    }

    fn append(&mut self, payload: usize) -> io::Result<()> {
        let header = record_header(self.stream, payload as u32);
        let mut buffer = std::mem::take(&mut self.buffer);
        let bytes = &mut buffer[..RECORD_HEADER_BYTES + payload];
        bytes[..RECORD_HEADER_BYTES].copy_from_slice(&header);
        let written = self.write(bytes);
        if written.is_ok() {
            self.hashes.update(self.stream, &bytes[RECORD_HEADER_BYTES..]);
            self.count(self.stream, payload);
        }
        self.buffer = buffer;
        written
    }

    /// Writes a whole record. An incomplete one does not count.
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        // At its own position: what is left of an incomplete record is overwritten.
        if let Err(error) = file.write_all_at(record, self.file_bytes) {
            let _ = file.set_len(self.file_bytes);
            if self.spool.as_mut().is_none_or(OutputSpool::note_failure) {
                let from = "output is dropped from here on: failed to write it";
                self.log.line(format_args!("{from}: {error}"));
            }
            return Err(error);
        }
        self.file_bytes += record.len() as u64;
        if let Some(spool) = &mut self.spool {
            spool.note_success();
        }
        Ok(())
    }

    fn payload_to_keep(&mut self, payload: usize) -> usize {
        let kept = self.stdout_bytes + self.stderr_bytes;
        if kept + payload as u64 > self.check_at {
            self.check_at = kept + QUOTA_STEP_BYTES;
            if output_of_all(&self.limits.executions) >= self.limits.quota_bytes {
                self.log.line("output is dropped from here on: the host's quota is used up");
                return 0;
            }
        }
        let free_bytes = self.limits.limit_bytes.saturating_sub(kept);
        usize::try_from(free_bytes).unwrap_or(usize::MAX).min(payload)
    }
}

/// Total size of the output files in the folder of executions.
fn output_of_all(executions: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(executions) else { return 0 };
    entries.flatten().map(|entry| output_release::held_bytes(&entry.path().join("output"))).sum()
}

#[cfg(test)]
mod tests;
