//! Tracks the received output of each command of a session.

use std::collections::HashMap;

use bytes::Bytes;
use muster_protocol::frame::output::{
    OutputFrame, RECORD_HEADER_BYTES, Stream, record_header, records_of,
};
use muster_protocol::limits::MAX_OUTPUT_BYTES;
use muster_protocol::package::MAX_SERVICE_OUTPUT_BYTES;

use crate::domain::ids::CommandId;
use crate::store::writer::Committed;

/// Received output of every command that the agent has. The session's epoch guarantees that no
/// other session appends output.
#[derive(Debug, Default)]
pub(super) struct OutputTracker(HashMap<CommandId, TrackedOutput>);

#[derive(Debug)]
struct TrackedOutput {
    received: Committed,
    /// The agent reported the start. Output before the start is a violation.
    is_started: bool,
    /// Offset of the last chunk of this session.
    last_chunk_bytes: Option<u64>,
    /// Output is ignored for the rest of this session.
    is_refused: bool,
    /// Of a run of a service: how much of its newest output is kept.
    max_log_bytes: Option<u64>,
}

impl TrackedOutput {
    fn new(received: Committed, is_started: bool) -> Self {
        let (last_chunk_bytes, max_log_bytes) = (None, None);
        Self { received, is_started, last_chunk_bytes, is_refused: false, max_log_bytes }
    }
}

/// What to do with an output frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameDecision {
    /// Store this chunk.
    Append(Chunk),
    /// Ignore the frame without an acknowledgement: the agent keeps the output.
    Ignore,
    /// All of the frame was received before.
    AlreadyReceived { offset_bytes: u64 },
    /// The agent has no such command.
    UnknownCommand,
    /// The frame leaves a gap, precedes the start, or exceeds the limit.
    Violation,
}

/// Records that directly follow the received output.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub start: Committed,
    pub length_bytes: u64,
    pub stdout_bytes: u64,
    pub records: Bytes,
    /// How much of the newest output is kept, if older output is removed.
    pub max_log_bytes: Option<u64>,
}

impl OutputTracker {
    /// Tracks a command that was just sent.
    pub(super) fn track_new(&mut self, command_id: CommandId) {
        let received = Committed::default();
        self.0.insert(command_id, TrackedOutput::new(received, false));
    }

    /// Tracks a command of an earlier session whose output is stored up to `received`.
    pub(super) fn track_from(&mut self, command_id: CommandId, received: Committed) {
        self.0.insert(command_id, TrackedOutput::new(received, true));
    }

    /// Keeps only the newest output of a command, which may then have more of it.
    pub(super) fn keep_newest(&mut self, command_id: CommandId, max_log_bytes: Option<u64>) {
        if let Some(tracked) = self.0.get_mut(&command_id) {
            tracked.max_log_bytes = max_log_bytes;
        }
    }

    pub(super) fn mark_started(&mut self, command_id: CommandId) {
        if let Some(tracked) = self.0.get_mut(&command_id) {
            tracked.is_started = true;
        }
    }

    pub(super) fn is_tracked(&self, command_id: CommandId) -> bool {
        self.0.contains_key(&command_id)
    }

    pub(super) fn remove(&mut self, command_id: CommandId) {
        self.0.remove(&command_id);
    }

    /// Ignores all further output of a command, and its report, which follows the output.
    pub(super) fn refuse(&mut self, command_id: CommandId) {
        if let Some(tracked) = self.0.get_mut(&command_id) {
            tracked.is_refused = true;
        }
    }

    pub(super) fn is_refused(&self, command_id: CommandId) -> bool {
        self.0.get(&command_id).is_some_and(|tracked| tracked.is_refused)
    }

    /// Offset of the last chunk of this session.
    pub(super) fn last_chunk_bytes(&self, command_id: CommandId) -> Option<u64> {
        self.0.get(&command_id)?.last_chunk_bytes
    }

    /// Decides what to do with a frame, and counts its new part as received.
    pub(super) fn accept(&mut self, frame: &OutputFrame<'_>, whole: &Bytes) -> FrameDecision {
        let Some(tracked) = self.0.get_mut(&CommandId(frame.command_id)) else {
            return FrameDecision::UnknownCommand;
        };
        if tracked.is_refused {
            return FrameDecision::Ignore;
        }
        let received = &mut tracked.received;
        let start = *received;
        let end = frame.offset_bytes + frame.payload_bytes;
        let most_bytes = match tracked.max_log_bytes {
            Some(_) => MAX_SERVICE_OUTPUT_BYTES,
            None => MAX_OUTPUT_BYTES,
        };
        let is_contiguous = frame.offset_bytes <= start.offset_bytes;
        if !is_contiguous || !tracked.is_started || end > most_bytes {
            return FrameDecision::Violation;
        }
        if end <= start.offset_bytes {
            return FrameDecision::AlreadyReceived { offset_bytes: start.offset_bytes };
        }
        let records = if frame.offset_bytes == start.offset_bytes {
            whole.slice_ref(frame.records)
        } else {
            after_offset(frame, start.offset_bytes)
        };
        let stdout_bytes = records_of(&records)
            .flatten()
            .filter(|record| record.stream == Stream::Stdout)
            .map(|record| record.payload.len() as u64)
            .sum();
        received.offset_bytes = end;
        received.stdout_bytes += stdout_bytes;
        tracked.last_chunk_bytes = Some(start.offset_bytes);
        FrameDecision::Append(Chunk {
            start,
            length_bytes: end - start.offset_bytes,
            stdout_bytes,
            records,
            max_log_bytes: tracked.max_log_bytes,
        })
    }
}

/// The records of a repeated frame without the part before `offset_bytes`.
fn after_offset(frame: &OutputFrame<'_>, offset_bytes: u64) -> Bytes {
    let mut offset = frame.offset_bytes;
    let mut rest = Vec::with_capacity(frame.records.len());
    for record in records_of(frame.records).flatten() {
        let length = record.payload.len() as u64;
        let known = offset_bytes.saturating_sub(offset).min(length);
        offset += length;
        let payload = &record.payload[usize::try_from(known).unwrap_or(record.payload.len())..];
        if !payload.is_empty() {
            rest.reserve(RECORD_HEADER_BYTES + payload.len());
            rest.extend_from_slice(&record_header(record.stream, payload.len() as u32));
            rest.extend_from_slice(payload);
        }
    }
    rest.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::frame::output::{decode_frame, write_frame_header};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn frame(records: &[(bool, Vec<u8>)], offset: u64) -> Bytes {
        let mut bytes = Vec::new();
        write_frame_header(&mut bytes, Uuid::nil(), offset);
        for (is_stderr, payload) in records {
            let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
            bytes.extend_from_slice(&record_header(stream, payload.len() as u32));
            bytes.extend_from_slice(payload);
        }
        bytes.into()
    }

    /// Splits records into frames that each start at or before the end of the previous one, as an
    /// agent sends them after interruptions.
    fn resend(records: Vec<(bool, Vec<u8>)>, cuts: &[(usize, usize)]) -> Vec<Bytes> {
        let offset_of = |index: usize| records[..index].iter().map(|r| r.1.len() as u64).sum();
        let mut frames = Vec::new();
        let mut reached = 0;
        for (back, forward) in cuts {
            let from = reached - (*back).min(reached);
            let to = (reached + forward).min(records.len());
            frames.push(frame(&records[from..to], offset_of(from)));
            reached = reached.max(to);
        }
        frames.push(frame(&records[reached..], offset_of(reached)));
        frames
    }

    proptest! {
        #[test]
        fn resent_output_is_stored_once_and_in_order(
            records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..20)), 1..30),
            cuts in prop::collection::vec((0usize..6, 0usize..6), 0..12),
        ) {
            let mut tracker = OutputTracker::default();
            tracker.track_from(CommandId(Uuid::nil()), Committed::default());
            let (mut stored, mut stdout) = (Vec::new(), 0);
            for bytes in resend(records.clone(), &cuts) {
                let decoded = decode_frame(&bytes).expect("a valid frame");
                if let FrameDecision::Append(chunk) = tracker.accept(&decoded, &bytes) {
                    prop_assert_eq!(chunk.start.offset_bytes, stored.len() as u64);
                    prop_assert_eq!(chunk.start.stdout_bytes, stdout);
                    for record in records_of(&chunk.records) {
                        stored.extend_from_slice(record.expect("whole").payload);
                    }
                    stdout += chunk.stdout_bytes;
                }
            }
            prop_assert_eq!(stored, records.iter().flat_map(|r| r.1.clone()).collect::<Vec<_>>());
            prop_assert_eq!(stdout, records.iter().filter(|r| !r.0).map(|r| r.1.len() as u64).sum::<u64>());
        }
    }

    #[test]
    fn known_half_of_a_record_is_cut_off() {
        let mut tracker = OutputTracker::default();
        let start = Committed { offset_bytes: 3, stdout_bytes: 3 };
        tracker.track_from(CommandId(Uuid::nil()), start);
        let bytes = frame(&[(false, b"abcdef".to_vec())], 0);
        match tracker.accept(&decode_frame(&bytes).expect("a valid frame"), &bytes) {
            FrameDecision::Append(chunk) => {
                assert_eq!((chunk.length_bytes, chunk.stdout_bytes), (3, 3));
                assert!(chunk.records.ends_with(b"def"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn output_before_the_start_is_a_violation() {
        let mut tracker = OutputTracker::default();
        tracker.track_new(CommandId(Uuid::nil()));
        let bytes = frame(&[(false, b"x".to_vec())], 0);
        let decoded = decode_frame(&bytes).expect("a valid frame");
        assert_eq!(tracker.accept(&decoded, &bytes), FrameDecision::Violation);
        tracker.mark_started(CommandId(Uuid::nil()));
        assert!(matches!(tracker.accept(&decoded, &bytes), FrameDecision::Append(_)));
    }

    #[test]
    fn output_after_a_gap_is_a_violation() {
        let mut tracker = OutputTracker::default();
        tracker.track_from(CommandId(Uuid::nil()), Committed::default());
        let bytes = frame(&[(false, b"x".to_vec())], 1);
        assert_eq!(
            tracker.accept(&decode_frame(&bytes).expect("a valid frame"), &bytes),
            FrameDecision::Violation
        );
    }
}
