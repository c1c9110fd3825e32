//! An execution's output file as a crash may leave it, with arbitrary checkpoints: the agent sends
//! a byte-exact prefix of the complete records, from any start.

use std::fs;

use muster_agent::executions::ledger::checkpoints;
use muster_agent::executions::output_reader::{self, OutputReader};
use muster_protocol::frame::output::{decode_frame, records_of};
use muster_protocol::limits::MAX_OUTPUT_FRAME_BYTES;
use uuid::Uuid;

/// The first byte is the start, the second the size of a frame, the third the length of the
/// checkpoints in the rest.
pub fn check(mut bytes: &[u8]) {
    let begin = super::take_byte(&mut bytes);
    let most = super::take_byte(&mut bytes) as u64 + 1;
    let marks_bytes = super::take_byte(&mut bytes).min(bytes.len());
    let (checkpoints, log) = bytes.split_at(marks_bytes);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("output");
    fs::write(&path, log).expect("written");
    fs::write(checkpoints::path_of(&path), checkpoints).expect("written");

    let whole: Vec<u8> = records_of(log)
        .map_while(Result::ok)
        .flat_map(|record| record.payload.iter().copied())
        .collect();
    let (recorded, _) = output_reader::recorded_from_start(&path).expect("read");
    assert_eq!(recorded.payload_bytes, whole.len() as u64);
    assert_eq!(recorded.stdout_bytes + recorded.stderr_bytes, recorded.payload_bytes);

    let begin = begin.min(whole.len());
    let mut reader = OutputReader::open_at(&path, begin as u64).expect("opened");
    assert_eq!(reader.offset_bytes(), begin as u64);
    let mut sent = Vec::new();
    while let Some(frame) = reader.next_frame(Uuid::nil(), most).expect("read") {
        assert!(frame.len() <= MAX_OUTPUT_FRAME_BYTES);
        let frame = decode_frame(&frame).expect("well formed");
        assert_eq!(frame.offset_bytes, (begin + sent.len()) as u64);
        assert!((1..=most).contains(&frame.payload_bytes), "{} of {most}", frame.payload_bytes);
        for record in records_of(frame.records) {
            sent.extend_from_slice(record.expect("checked").payload);
        }
    }
    assert_eq!(sent, whole[begin..]);
}
