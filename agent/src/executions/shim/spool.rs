//! The bound on what the output of a service takes of the disk, what waits for space, and what was dropped
//! because of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use muster_protocol::frame::output::{RECORD_HEADER_BYTES, Stream};

use crate::executions::output_release;

/// Checkpoints within the bound: what the server has stored is released up to one of them.
const CHECKPOINTS: u64 = 8;
/// Newest output that is held in memory while there is no space for it; of a small bound an eighth.
const MAX_HELD_BYTES: u64 = 256 * 1024;
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
    /// The newest output, which comes after what was dropped.
    held: VecDeque<(Stream, Box<[u8]>)>,
    /// Payload of it.
    held_bytes: u64,
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
            held: VecDeque::new(),
            held_bytes: 0,
            has_failed: false,
        }
    }

    /// How far checkpoints are apart.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.max_bytes / CHECKPOINTS
    }

    /// True if what is held, and a record with this payload after it, may be appended to a file of this size.
    pub fn admits(&mut self, file_bytes: u64, payload: usize) -> bool {
        let headers = RECORD_HEADER_BYTES * (self.held.len() + 1);
        let needed = (headers + payload) as u64 + self.held_bytes + LINE_BYTES;
        let mut fits = self.has_space(file_bytes, needed);
        if !fits {
            self.released_bytes = output_release::released_bytes(&self.output);
            fits = self.has_space(file_bytes, needed);
        }
        self.is_full = !fits;
        fits && !self.is_over_quota
    }

    fn has_space(&self, file_bytes: u64, needed: u64) -> bool {
        let limit = if self.is_full { self.max_bytes / 4 * 3 } else { self.max_bytes };
        file_bytes.saturating_sub(self.released_bytes) + needed <= limit
    }

    /// Keeps a record until there is space for it. Returns how much older payload was dropped for it.
    pub fn hold(&mut self, stream: Stream, payload: &[u8]) -> u64 {
        self.held.push_back((stream, payload.into()));
        self.held_bytes += payload.len() as u64;
        let most = MAX_HELD_BYTES.min(self.max_bytes / 8);
        let mut dropped_bytes = 0;
        while self.held_bytes > most {
            dropped_bytes += self.drop_oldest();
        }
        dropped_bytes
    }

    /// Drops everything that is held, and returns how much that is.
    pub fn drop_held(&mut self) -> u64 {
        let mut dropped_bytes = 0;
        while !self.held.is_empty() {
            dropped_bytes += self.drop_oldest();
        }
        dropped_bytes
    }

    fn drop_oldest(&mut self) -> u64 {
        let bytes = self.held.pop_front().map_or(0, |(_, payload)| payload.len() as u64);
        self.held_bytes -= bytes;
        self.missing_bytes += bytes;
        bytes
    }

    /// The oldest record that is held.
    pub fn take_held(&mut self) -> Option<(Stream, Box<[u8]>)> {
        let taken = self.held.pop_front()?;
        self.held_bytes -= taken.1.len() as u64;
        Some(taken)
    }

    /// It could not be stored.
    pub fn put_back(&mut self, (stream, payload): (Stream, Box<[u8]>)) {
        self.held_bytes += payload.len() as u64;
        self.held.push_front((stream, payload));
    }

    /// Payload that is held.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// True if something waits for space, or the line about what was dropped does.
    pub fn is_waiting(&self) -> bool {
        self.missing_bytes > 0 || !self.held.is_empty()
    }

    /// A write succeeded.
    pub fn note_success(&mut self) {
        self.has_failed = false;
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
