//! Cuts output into events for live viewers. Pure: knows neither storage nor wire.
//!
//! The pieces together are exactly the bytes of the output, regardless of the chunks that it arrives in.

use std::collections::VecDeque;

use muster_protocol::frame::output::Stream;

/// Most payload of one event.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Most continuation bytes of a UTF-8 character, after its first byte.
const MAX_CONTINUATION_BYTES: usize = 3;

/// A contiguous piece of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub stream: Stream,
    /// Payload of both streams before the piece.
    pub offset_bytes: u64,
    /// Payload of both streams up to the end of the piece.
    pub end_bytes: u64,
    pub payload: Payload,
}

/// Text if the bytes are UTF-8, otherwise the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    Text(String),
    Bytes(Vec<u8>),
}

/// Cuts output into pieces of at most [`MAX_EVENT_BYTES`]. A character whose bytes are contiguous
/// is never split.
#[derive(Debug)]
pub struct Cutter {
    stream: Stream,
    /// The offset at which `run` starts.
    start_bytes: u64,
    /// Bytes that are not in a piece yet: less than one event, and after a pause less than one
    /// character.
    run: Vec<u8>,
}

impl Cutter {
    /// Starts at an offset.
    pub fn new(start_bytes: u64) -> Self {
        Self { stream: Stream::Stdout, start_bytes, run: Vec::new() }
    }

    /// Adds the next bytes.
    pub fn push(&mut self, stream: Stream, payload: &[u8], pieces: &mut VecDeque<Piece>) {
        if stream != self.stream {
            self.finish(pieces);
            self.stream = stream;
        }
        self.run.extend_from_slice(payload);
        while self.run.len() >= MAX_EVENT_BYTES {
            self.cut(pieces);
        }
    }

    /// Skips the next bytes.
    pub fn skip(&mut self, bytes: u64, pieces: &mut VecDeque<Piece>) {
        self.finish(pieces);
        self.start_bytes += bytes;
    }

    /// Returns everything except the start of a character whose rest may follow.
    pub fn pause(&mut self, pieces: &mut VecDeque<Piece>) {
        while !self.run.is_empty() && !is_begun_character(&self.run) {
            self.cut(pieces);
        }
    }

    /// Returns everything: what follows is of the other stream, or there is nothing more.
    pub fn finish(&mut self, pieces: &mut VecDeque<Piece>) {
        while !self.run.is_empty() {
            self.cut(pieces);
        }
    }

    fn cut(&mut self, pieces: &mut VecDeque<Piece>) {
        let rest = self.run.split_off(piece_length(&self.run));
        let bytes = std::mem::replace(&mut self.run, rest);
        let offset_bytes = self.start_bytes;
        self.start_bytes += bytes.len() as u64;
        let payload = String::from_utf8(bytes)
            .map_or_else(|error| Payload::Bytes(error.into_bytes()), Payload::Text);
        let end_bytes = self.start_bytes;
        pieces.push_back(Piece { stream: self.stream, offset_bytes, end_bytes, payload });
    }
}

/// Length of the next piece of `run`, which is not empty.
fn piece_length(run: &[u8]) -> usize {
    let window = &run[..run.len().min(MAX_EVENT_BYTES)];
    let lead = window
        .iter()
        .take(MAX_CONTINUATION_BYTES)
        .take_while(|byte| matches!(byte, 0x80..=0xbf))
        .count();
    // The end of a split character must not make the text after it binary.
    if lead > 0 && text_length(&window[lead..]).is_some_and(|length| length > 0) {
        return lead;
    }
    match text_length(window) {
        None | Some(0) => window.len(),
        Some(length) => length,
    }
}

/// Length of the text, without an incomplete character at the end. `None` if the bytes are not
/// text.
fn text_length(bytes: &[u8]) -> Option<usize> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.len()),
        Err(error) if error.error_len().is_none() => Some(error.valid_up_to()),
        Err(_) => None,
    }
}

fn is_begun_character(bytes: &[u8]) -> bool {
    text_length(bytes) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Piece {
        fn bytes(&self) -> &[u8] {
            match &self.payload {
                Payload::Text(text) => text.as_bytes(),
                Payload::Bytes(bytes) => bytes,
            }
        }
    }

    /// Text with characters of every length, bytes that are not text, and more than one event.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => "[a-zé€𝄞\n]{1,12}".prop_map(String::into_bytes),
            8 => prop::collection::vec(any::<u8>(), 1..12),
            1 => (any::<u8>(), 60_000..70_000usize).prop_map(|(byte, length)| vec![byte; length]),
        ]
    }

    fn cut(records: &[(Stream, Vec<u8>, bool)], from: u64) -> Vec<Piece> {
        let mut pieces = VecDeque::new();
        let mut cutter = Cutter::new(from);
        for (stream, payload, is_pause) in records {
            cutter.push(*stream, payload, &mut pieces);
            if *is_pause {
                cutter.pause(&mut pieces);
            }
        }
        cutter.finish(&mut pieces);
        pieces.into()
    }

    fn stream() -> impl Strategy<Value = Stream> {
        prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
    }

    proptest! {
        #[test]
        fn pieces_together_are_the_bytes_for_any_chunks(
            records in prop::collection::vec((stream(), payload(), any::<bool>()), 0..12),
            from in 0..1_000_000u64,
        ) {
            let pieces = cut(&records, from);
            let mut end = from;
            for piece in &pieces {
                prop_assert_eq!(piece.offset_bytes, end);
                prop_assert_eq!(piece.end_bytes - piece.offset_bytes, piece.bytes().len() as u64);
                prop_assert!((1..=MAX_EVENT_BYTES).contains(&piece.bytes().len()));
                let is_text = std::str::from_utf8(piece.bytes()).is_ok();
                prop_assert_eq!(is_text, matches!(piece.payload, Payload::Text(_)));
                end = piece.end_bytes;
            }
            let given: Vec<_> = pieces.iter().flat_map(|piece| piece.bytes().iter().map(|byte| (piece.stream, *byte))).collect();
            let taken: Vec<_> = records.iter().flat_map(|(stream, payload, _)| payload.iter().map(|byte| (*stream, *byte))).collect();
            prop_assert!(given == taken);
        }

        #[test]
        fn text_stays_text_wherever_its_chunks_are_torn(
            text in "[a-zé€𝄞\n]{0,60}",
            cuts in prop::collection::vec((1..5usize, any::<bool>()), 0..60),
        ) {
            let (mut rest, mut records) = (text.as_bytes(), Vec::new());
            for (length, is_pause) in cuts {
                let (chunk, behind) = rest.split_at(length.min(rest.len()));
                records.push((Stream::Stdout, chunk.to_vec(), is_pause));
                rest = behind;
            }
            records.push((Stream::Stdout, rest.to_vec(), false));
            let pieces = cut(&records, 0);
            prop_assert!(pieces.iter().all(|piece| matches!(piece.payload, Payload::Text(_))), "{:?}", pieces);
        }
    }

    #[test]
    fn a_character_torn_apart_by_the_other_stream_costs_its_neighbours_nothing() {
        let euro = "€".as_bytes();
        let records = [
            (Stream::Stdout, [b"a", &euro[..1]].concat(), true),
            (Stream::Stderr, b"oh".to_vec(), true),
            (Stream::Stdout, [&euro[1..], b"b"].concat(), true),
        ];
        let payloads: Vec<_> = cut(&records, 0).into_iter().map(|piece| piece.payload).collect();
        let text = |text: &str| Payload::Text(text.into());
        let bytes = |bytes: &[u8]| Payload::Bytes(bytes.into());
        let expected = [text("a"), bytes(&euro[..1]), text("oh"), bytes(&euro[1..]), text("b")];
        assert_eq!(payloads, expected);
    }
}
