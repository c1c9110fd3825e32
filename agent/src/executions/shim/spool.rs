//! The bound on what the output of a service takes of the disk, and what was dropped because of it.

use std::path::{Path, PathBuf};

use muster_protocol::frame::output::RECORD_HEADER_BYTES;

use crate::executions::output_release;

/// Checkpoints within the bound: what the server has stored is released up to one of them.
const CHECKPOINTS: u64 = 8;
/// Space for the line about what is missing.
pub const LINE_BYTES: u64 = 256;

/// What the output file of a service may take.
#[derive(Debug)]
pub struct OutputSpool {
    output: PathBuf,
    max_bytes: u64,
    /// As far as it is known here.
    released_bytes: u64,
    /// Nothing is stored until a part of the bound is free again, so that gaps are few.
    is_full: bool,
    /// All executions together have as much output as they may have.
    pub is_over_quota: bool,
    /// What was dropped since the last record.
    missing_bytes: u64,
    /// The last write failed.
    has_failed: bool,
}

impl OutputSpool {
    pub fn new(output: &Path, max_bytes: u64) -> Self {
        Self {
            output: output.to_owned(),
            max_bytes,
            released_bytes: 0,
            is_full: false,
            is_over_quota: false,
            missing_bytes: 0,
            has_failed: false,
        }
    }

    /// How far checkpoints are apart.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.max_bytes / CHECKPOINTS
    }

    /// True if a record with this payload may be appended to a file of this size.
    pub fn admits(&mut self, file_bytes: u64, payload: usize) -> bool {
        let needed = (RECORD_HEADER_BYTES + payload) as u64 + LINE_BYTES;
        if !self.has_space(file_bytes, needed) {
            self.released_bytes = output_release::released_bytes(&self.output);
            self.is_full = !self.has_space(file_bytes, needed);
        }
        !self.is_full && !self.is_over_quota
    }

    fn has_space(&self, file_bytes: u64, needed: u64) -> bool {
        let limit = if self.is_full { self.max_bytes / 4 * 3 } else { self.max_bytes };
        file_bytes.saturating_sub(self.released_bytes) + needed <= limit
    }

    /// Counts payload that was not stored.
    pub fn note_dropped(&mut self, bytes: u64) {
        self.missing_bytes += bytes;
        self.has_failed &= bytes > 0;
    }

    /// A write failed. True if it is the first one since the last that succeeded.
    pub fn note_failure(&mut self) -> bool {
        !std::mem::replace(&mut self.has_failed, true)
    }

    /// The line that stands for what was dropped, if anything was.
    pub fn missing_line(&self) -> Option<String> {
        (self.missing_bytes > 0).then(|| {
            let bytes = self.missing_bytes;
            format!("\n[muster: {bytes} bytes of output are missing here: the host had no space for them]\n")
        })
    }

    /// The line was stored.
    pub fn note_line(&mut self) {
        self.missing_bytes = 0;
    }
}
