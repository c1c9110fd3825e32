//! How far the output of each command of a session has come.

use std::collections::HashMap;

use bytes::Bytes;
use muster_protocol::frame::output::{
    OutputFrame, RECORD_HEADER_BYTES, Stream, record_header, records_of,
};
use muster_protocol::limits::MAX_OUTPUT_BYTES;

use crate::domain::ids::CommandId;
use crate::store::writer::Committed;

/// Output received per command that the agent holds. The session's epoch makes it the only one
/// that appends.
#[derive(Debug, Default)]
pub(super) struct Custody(HashMap<CommandId, Held>);

#[derive(Debug)]
struct Held {
    received: Committed,
    /// Whatever has output was started before, and may never be sent again.
    is_started: bool,
    /// Where the last chunk begins that came in this session.
    last_chunk_bytes: Option<u64>,
    /// Its output is not taken in for the rest of this session.
    is_refused: bool,
}

impl Held {
    fn new(received: Committed, is_started: bool) -> Self {
        Self { received, is_started, last_chunk_bytes: None, is_refused: false }
    }
}

/// What to do with an output frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// Store this.
    Append(Chunk),
    /// Nothing of it is taken in, and nothing is said: the agent keeps it.
    Refused,
    /// Everything in it is stored or on its way already.
    Known { offset_bytes: u64 },
    /// The agent holds no such command.
    UnknownCommand,
    /// Bytes are missing before it, it comes before the start, or beyond the bound.
    Violation,
}

/// Records that continue where the received output ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub start: Committed,
    pub length_bytes: u64,
    pub stdout_bytes: u64,
    pub records: Bytes,
}

impl Custody {
    /// The agent was sent a command.
    pub(super) fn try_acquire_new(&mut self, command_id: CommandId) {
        let received = Committed::default();
        self.0.insert(command_id, Held::new(received, false));
    }

    /// The agent has a command from an earlier session, whose output is stored so far.
    pub(super) fn hold(&mut self, command_id: CommandId, received: Committed) {
        self.0.insert(command_id, Held::new(received, true));
    }

    pub(super) fn start(&mut self, command_id: CommandId) {
        if let Some(held) = self.0.get_mut(&command_id) {
            held.is_started = true;
        }
    }

    pub(super) fn holds(&self, command_id: CommandId) -> bool {
        self.0.contains_key(&command_id)
    }

    pub(super) fn drop_command(&mut self, command_id: CommandId) {
        self.0.remove(&command_id);
    }

    /// Takes in no more output of a command, nor its report, which comes behind it.
    pub(super) fn refuse(&mut self, command_id: CommandId) {
        if let Some(held) = self.0.get_mut(&command_id) {
            held.is_refused = true;
        }
    }

    pub(super) fn is_refused(&self, command_id: CommandId) -> bool {
        self.0.get(&command_id).is_some_and(|held| held.is_refused)
    }

    /// Where the last chunk begins that came in this session.
    pub(super) fn last_chunk_bytes(&self, command_id: CommandId) -> Option<u64> {
        self.0.get(&command_id)?.last_chunk_bytes
    }

    /// Judges a frame against what came before it, and counts what is new as received.
    pub(super) fn take(&mut self, frame: &OutputFrame<'_>, whole: &Bytes) -> Intake {
        let Some(held) = self.0.get_mut(&CommandId(frame.command_id)) else {
            return Intake::UnknownCommand;
        };
        if held.is_refused {
            return Intake::Refused;
        }
        let received = &mut held.received;
        let start = *received;
        let end = frame.offset_bytes + frame.payload_bytes;
        let is_in_turn = frame.offset_bytes <= start.offset_bytes;
        if !is_in_turn || !held.is_started || end > MAX_OUTPUT_BYTES {
            return Intake::Violation;
        }
        if end <= start.offset_bytes {
            return Intake::Known { offset_bytes: start.offset_bytes };
        }
        let records = if frame.offset_bytes == start.offset_bytes {
            whole.slice_ref(frame.records)
        } else {
            behind(frame, start.offset_bytes)
        };
        let stdout_bytes = records_of(&records)
            .flatten()
            .filter(|record| record.stream == Stream::Stdout)
            .map(|record| record.payload.len() as u64)
            .sum();
        received.offset_bytes = end;
        received.stdout_bytes += stdout_bytes;
        held.last_chunk_bytes = Some(start.offset_bytes);
        Intake::Append(Chunk {
            start,
            length_bytes: end - start.offset_bytes,
            stdout_bytes,
            records,
        })
    }
}

/// The records of a frame that was sent again, without what is stored of them.
fn behind(frame: &OutputFrame<'_>, offset_bytes: u64) -> Bytes {
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

    /// Cuts a stream of records into frames that each start anywhere at or before the point
    /// reached, as an agent's do that resends after every cut.
    fn resent(records: Vec<(bool, Vec<u8>)>, cuts: &[(usize, usize)]) -> Vec<Bytes> {
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
        fn whatever_is_sent_again_every_byte_is_stored_once_and_in_order(
            records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..20)), 1..30),
            cuts in prop::collection::vec((0usize..6, 0usize..6), 0..12),
        ) {
            let mut custody = Custody::default();
            custody.hold(CommandId(Uuid::nil()), Committed::default());
            let (mut stored, mut stdout) = (Vec::new(), 0);
            for bytes in resent(records.clone(), &cuts) {
                let decoded = decode_frame(&bytes).expect("made here");
                if let Intake::Append(chunk) = custody.take(&decoded, &bytes) {
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
    fn half_a_record_that_is_known_is_cut_off() {
        let mut custody = Custody::default();
        let start = Committed { offset_bytes: 3, stdout_bytes: 3 };
        custody.hold(CommandId(Uuid::nil()), start);
        let bytes = frame(&[(false, b"abcdef".to_vec())], 0);
        match custody.take(&decode_frame(&bytes).expect("made here"), &bytes) {
            Intake::Append(chunk) => {
                assert_eq!((chunk.length_bytes, chunk.stdout_bytes), (3, 3));
                assert!(chunk.records.ends_with(b"def"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn output_before_the_start_is_never_stored() {
        let mut custody = Custody::default();
        custody.try_acquire_new(CommandId(Uuid::nil()));
        let bytes = frame(&[(false, b"x".to_vec())], 0);
        let decoded = decode_frame(&bytes).expect("made here");
        assert_eq!(custody.take(&decoded, &bytes), Intake::Violation);
        custody.start(CommandId(Uuid::nil()));
        assert!(matches!(custody.take(&decoded, &bytes), Intake::Append(_)));
    }

    #[test]
    fn a_gap_is_never_stored() {
        let mut custody = Custody::default();
        custody.hold(CommandId(Uuid::nil()), Committed::default());
        let bytes = frame(&[(false, b"x".to_vec())], 1);
        assert_eq!(
            custody.take(&decode_frame(&bytes).expect("made here"), &bytes),
            Intake::Violation
        );
    }
}
