//! Binary output frames: a decoded frame encodes to the same bytes, and is within its limits.

use muster_protocol::frame::output::{decode_frame, record_header, records_of, write_frame_header};
use muster_protocol::limits::{MAX_OUTPUT_FRAME_BYTES, MAX_OUTPUT_RECORD_BYTES};

pub fn check(bytes: &[u8]) {
    let Ok(frame) = decode_frame(bytes) else { return };
    assert!(bytes.len() <= MAX_OUTPUT_FRAME_BYTES);
    let mut written = Vec::with_capacity(bytes.len());
    write_frame_header(&mut written, frame.command_id, frame.offset_bytes);
    let mut payload_bytes = 0;
    for record in records_of(frame.records) {
        let payload = record.expect("checked by the frame").payload;
        assert!((1..=MAX_OUTPUT_RECORD_BYTES).contains(&payload.len()));
        payload_bytes += payload.len() as u64;
    }
    for record in records_of(frame.records).flatten() {
        written.extend_from_slice(&record_header(record.stream, record.payload.len() as u32));
        written.extend_from_slice(record.payload);
    }
    assert_eq!(written, bytes);
    assert_eq!(payload_bytes, frame.payload_bytes);
    assert!(frame.offset_bytes.checked_add(payload_bytes).is_some());
}
