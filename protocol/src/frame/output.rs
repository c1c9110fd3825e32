//! Output of a child process: records, in the same format on the host's disk and in binary frames.
//!
//! ```text
//! frame  = version u8 (1) · command id 16 bytes · offset u64 · record*
//! record = stream u8 (1 stdout, 2 stderr) · length u32 · payload
//! ```
//! Numbers are big-endian. `offset` counts the payload of both streams, in the order read, before
//! the frame's first record, without record headers.

use uuid::Uuid;

use crate::limits::{MAX_OUTPUT_FRAME_BYTES, MAX_OUTPUT_RECORD_BYTES};

const VERSION: u8 = 1;
/// Bytes before the first record of a frame.
pub const FRAME_HEADER_BYTES: usize = 25;
/// Bytes before a record's payload.
pub const RECORD_HEADER_BYTES: usize = 5;

/// The stream that a record was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The tag on the wire.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The stream of a tag.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// One read of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub stream: Stream,
    pub payload: &'a [u8],
}

/// A binary frame, borrowed from the received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputFrame<'a> {
    pub command_id: Uuid,
    pub offset_bytes: u64,
    /// Complete, valid records.
    pub records: &'a [u8],
    /// Total payload of all records.
    pub payload_bytes: u64,
}

/// Why bytes are not an output frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    #[error("the output frame is shorter than its header")]
    Short,
    #[error("unknown version {0} of output frames")]
    Version(u8),
    #[error("unknown stream tag {0}")]
    Stream(u8),
    #[error("an output record is incomplete")]
    Cut,
    #[error("an output record is empty, or a record or frame exceeds its size limit")]
    Bound,
}

/// Encodes the header of a record; the payload follows it.
pub fn record_header(stream: Stream, payload_bytes: u32) -> [u8; RECORD_HEADER_BYTES] {
    let [a, b, c, d] = payload_bytes.to_be_bytes();
    [stream.tag(), a, b, c, d]
}

/// Decodes the header of a record: its stream and payload length.
///
/// # Errors
/// [`OutputError`] if the tag is unknown or the length is out of bounds.
pub fn read_record_header(
    header: [u8; RECORD_HEADER_BYTES],
) -> Result<(Stream, usize), OutputError> {
    let [tag, a, b, c, d] = header;
    let stream = Stream::from_tag(tag).ok_or(OutputError::Stream(tag))?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length == 0 || length > MAX_OUTPUT_RECORD_BYTES {
        return Err(OutputError::Bound);
    }
    Ok((stream, length))
}

/// Writes a frame's header into an empty buffer; complete records follow it.
pub fn write_frame_header(buffer: &mut Vec<u8>, command_id: Uuid, offset_bytes: u64) {
    buffer.push(VERSION);
    buffer.extend_from_slice(command_id.as_bytes());
    buffer.extend_from_slice(&offset_bytes.to_be_bytes());
}

/// Decodes and validates a binary frame without copying it.
///
/// # Errors
/// [`OutputError`] for the first error.
pub fn decode_frame(frame: &[u8]) -> Result<OutputFrame<'_>, OutputError> {
    if frame.len() < FRAME_HEADER_BYTES {
        return Err(OutputError::Short);
    }
    let (header, records) = frame.split_at(FRAME_HEADER_BYTES);
    if header[0] != VERSION {
        return Err(OutputError::Version(header[0]));
    }
    if frame.len() > MAX_OUTPUT_FRAME_BYTES {
        return Err(OutputError::Bound);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&header[1..17]);
    let mut offset = [0; 8];
    offset.copy_from_slice(&header[17..25]);
    let offset_bytes = u64::from_be_bytes(offset);
    let mut payload_bytes = 0;
    for record in records_of(records) {
        payload_bytes += record?.payload.len() as u64;
    }
    if offset_bytes.checked_add(payload_bytes).is_none() {
        return Err(OutputError::Bound);
    }
    Ok(OutputFrame { command_id: Uuid::from_bytes(id), offset_bytes, records, payload_bytes })
}

/// Cuts a binary frame into frames of at most `max_bytes` each, which contain the same output.
///
/// # Errors
/// [`OutputError`] if the frame is invalid, or if `max_bytes` leaves no space for payload.
pub fn split_frame(frame: &[u8], max_bytes: usize) -> Result<Vec<Vec<u8>>, OutputError> {
    const HEADERS_BYTES: usize = FRAME_HEADER_BYTES + RECORD_HEADER_BYTES;
    let decoded = decode_frame(frame)?;
    if max_bytes <= HEADERS_BYTES {
        return Err(OutputError::Bound);
    }
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut offset_bytes = decoded.offset_bytes;
    for record in records_of(decoded.records) {
        let Record { stream, mut payload } = record?;
        while !payload.is_empty() {
            let space =
                |frame: &Vec<u8>| max_bytes.saturating_sub(frame.len() + RECORD_HEADER_BYTES);
            if frames.last().is_none_or(|frame| space(frame) == 0) {
                let mut next = Vec::with_capacity(max_bytes.min(frame.len()));
                write_frame_header(&mut next, decoded.command_id, offset_bytes);
                frames.push(next);
            }
            let Some(last) = frames.last_mut() else { return Err(OutputError::Bound) };
            let (piece, rest) = payload.split_at(payload.len().min(space(last)));
            last.extend_from_slice(&record_header(stream, piece.len() as u32));
            last.extend_from_slice(piece);
            offset_bytes += piece.len() as u64;
            payload = rest;
        }
    }
    Ok(frames)
}

/// Iterates over the records in bytes.
pub fn records_of(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, OutputError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = next_record(bytes);
        bytes = match &record {
            Ok(record) => &bytes[RECORD_HEADER_BYTES + record.payload.len()..],
            Err(_) => &[],
        };
        Some(record)
    })
}

fn next_record(bytes: &[u8]) -> Result<Record<'_>, OutputError> {
    let (header, rest) =
        bytes.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(OutputError::Cut)?;
    let (stream, length) = read_record_header(*header)?;
    let payload = rest.get(..length).ok_or(OutputError::Cut)?;
    Ok(Record { stream, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encoded_frames_round_trip(
            offset in any::<u32>(),
            records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..300)), 0..20),
        ) {
            let mut frame = Vec::new();
            write_frame_header(&mut frame, Uuid::from_u128(7), offset.into());
            for (is_stderr, payload) in &records {
                let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
                frame.extend_from_slice(&record_header(stream, payload.len() as u32));
                frame.extend_from_slice(payload);
            }
            let read = decode_frame(&frame).expect("just written");
            prop_assert_eq!(read.offset_bytes, u64::from(offset));
            prop_assert_eq!(read.payload_bytes, records.iter().map(|r| r.1.len() as u64).sum::<u64>());
            let payloads: Vec<_> = records_of(read.records).map(|r| r.expect("checked").payload.to_vec()).collect();
            prop_assert_eq!(payloads, records.into_iter().map(|r| r.1).collect::<Vec<_>>());
        }

        #[test]
        fn pieces_of_a_frame_contain_the_same_output(
            records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..300)), 0..20),
            max_bytes in 31usize..400,
        ) {
            let mut frame = Vec::new();
            write_frame_header(&mut frame, Uuid::from_u128(7), 5);
            for (is_stderr, payload) in &records {
                let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
                frame.extend_from_slice(&record_header(stream, payload.len() as u32));
                frame.extend_from_slice(payload);
            }
            let tagged = |frame: &[u8]| -> Vec<(Stream, u8)> {
                let records = records_of(&frame[FRAME_HEADER_BYTES..]).map(|record| record.expect("valid"));
                records.flat_map(|r| r.payload.iter().map(move |byte| (r.stream, *byte))).collect()
            };
            let mut offset = 5;
            let mut output = Vec::new();
            for piece in split_frame(&frame, max_bytes).expect("a valid frame") {
                prop_assert!(piece.len() <= max_bytes);
                let decoded = decode_frame(&piece).expect("a valid frame");
                prop_assert_eq!(decoded.offset_bytes, offset);
                offset += decoded.payload_bytes;
                output.extend(tagged(&piece));
            }
            prop_assert_eq!(output, tagged(&frame));
        }

        #[test]
        fn decoding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_frame(&bytes);
        }
    }
}
