//! Finds text in the lines of an output. Pure: knows neither storage nor wire.
//!
//! Lines are those that a person sees: without control sequences, and without what a carriage return
//! writes over.

use muster_protocol::frame::output::Stream;

/// Longest line that is searched as a whole, in bytes. Longer ones are searched in parts.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// Longest text of a hit, in characters.
pub const MAX_HIT_CHARS: usize = 300;
/// Characters of a hit's text before the match.
const CHARS_BEFORE: usize = 80;

/// A line that has the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub stream: Stream,
    /// Payload of both streams before the line.
    pub offset_bytes: u64,
    /// The line, or the part around the match.
    pub text: String,
}

/// A search that is given the output in order.
#[derive(Debug)]
pub struct LineSearch {
    /// In lower case.
    wanted: String,
    limit: usize,
    stdout: OpenLine,
    stderr: OpenLine,
    hits: Vec<Hit>,
    /// Payload of both streams before the end of what was searched.
    end_bytes: u64,
}

/// What has arrived of a line.
#[derive(Debug, Default)]
struct OpenLine {
    /// Payload of both streams before it; `None` before its first byte.
    start_bytes: Option<u64>,
    bytes: Vec<u8>,
}

impl LineSearch {
    /// Searches for `text`, in upper or lower case, until there are `limit` hits.
    pub fn new(text: &str, limit: usize) -> Self {
        let (stdout, stderr) = (OpenLine::default(), OpenLine::default());
        let (wanted, hits) = (text.to_lowercase(), Vec::new());
        Self { wanted, limit, stdout, stderr, hits, end_bytes: 0 }
    }

    /// Adds the next bytes of a stream. `offset_bytes` counts both streams. Once the search is full, nothing
    /// is added.
    pub fn push(&mut self, stream: Stream, offset_bytes: u64, payload: &[u8]) {
        let mut offset = offset_bytes;
        for part in payload.split_inclusive(|byte| *byte == b'\n') {
            if self.is_full() {
                return;
            }
            let line = self.line(stream);
            line.start_bytes.get_or_insert(offset);
            line.bytes.extend_from_slice(part);
            offset += part.len() as u64;
            self.end_bytes = offset;
            let line = self.line(stream);
            if part.ends_with(b"\n") || line.bytes.len() >= MAX_LINE_BYTES {
                self.close(stream);
            }
        }
    }

    /// Ends the search before `end_bytes`, or where it became full, and returns the hits and where the next
    /// search continues in stdout and in stderr: at the start of a line whose end was not seen, if there is one.
    /// A line that started more than [`MAX_LINE_BYTES`] before the end is searched as far as it is known, unless
    /// the search is full.
    pub fn pause(mut self, end_bytes: u64) -> (Vec<Hit>, [u64; 2]) {
        let end_bytes = if self.is_full() { self.end_bytes } else { end_bytes };
        let next = [Stream::Stdout, Stream::Stderr].map(|stream| {
            let start = self.line(stream).start_bytes.unwrap_or(end_bytes);
            if self.is_full() || end_bytes - start <= MAX_LINE_BYTES as u64 {
                return start;
            }
            self.close(stream);
            end_bytes
        });
        (self.into_hits(), next)
    }

    /// Ends the search at the end of the output, and returns the hits. If it becomes full before the last line, also
    /// where the next search continues.
    pub fn finish(mut self) -> (Vec<Hit>, Option<[u64; 2]>) {
        let end_bytes = self.end_bytes;
        let next = [Stream::Stdout, Stream::Stderr].map(|stream| {
            if let (true, Some(start)) = (self.is_full(), self.line(stream).start_bytes) {
                return start;
            }
            self.close(stream);
            end_bytes
        });
        let is_complete = next == [end_bytes; 2];
        (self.into_hits(), (!is_complete).then_some(next))
    }

    fn into_hits(mut self) -> Vec<Hit> {
        self.hits.sort_by_key(|hit| hit.offset_bytes);
        self.hits
    }

    /// True if there are as many hits as were wanted.
    pub fn is_full(&self) -> bool {
        self.hits.len() >= self.limit
    }

    fn line(&mut self, stream: Stream) -> &mut OpenLine {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn close(&mut self, stream: Stream) {
        let OpenLine { start_bytes, bytes } = std::mem::take(self.line(stream));
        let Some(offset_bytes) = start_bytes else { return };
        let text = visible_text(&bytes);
        let lower = text.to_lowercase();
        if let Some(at) = lower.find(&self.wanted) {
            let before = lower[..at].chars().count();
            let from = before.saturating_sub(CHARS_BEFORE);
            let text = text.chars().skip(from).take(MAX_HIT_CHARS).collect();
            self.hits.push(Hit { stream, offset_bytes, text });
        }
    }
}

/// What a terminal would show of a line.
fn visible_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let text = text.rsplit('\r').next().unwrap_or(text);
    without_sequences(text)
}

/// Removes colours and other control sequences, as a terminal that does not know them would.
fn without_sequences(text: &str) -> String {
    const ESCAPE: char = '\u{1b}';
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char != ESCAPE {
            shown.push(char);
            continue;
        }
        match chars.next() {
            // Parameters, and then one character that ends it.
            Some('[') => while chars.next_if(|char| matches!(*char, ' '..='?')).is_some() {},
            // A title or another text, up to a bell or the next escape.
            Some(']' | 'P' | 'X' | '^' | '_') => {
                while chars.next_if(|char| !matches!(*char, '\u{7}' | ESCAPE)).is_some() {}
                chars.next_if(|char| *char == '\u{7}');
                continue;
            }
            Some(' '..='/') => while chars.next_if(|char| matches!(*char, ' '..='/')).is_some() {},
            _ => continue,
        }
        chars.next_if(|char| matches!(*char, '0'..='~'));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(records: &[(Stream, Vec<u8>)], text: &str) -> Vec<Hit> {
        let mut search = LineSearch::new(text, usize::MAX);
        let mut offset = 0;
        for (stream, payload) in records {
            search.push(*stream, offset, payload);
            offset += payload.len() as u64;
        }
        search.finish().0
    }

    /// The same in several searches of at most `limit` hits: each continues where the one before it paused.
    fn in_several(
        records: &[(Stream, Vec<u8>)],
        text: &str,
        part_bytes: u64,
        limit: usize,
    ) -> Vec<Hit> {
        let end: u64 = records.iter().map(|(_, payload)| payload.len() as u64).sum();
        let (mut from, mut until, mut hits) = ([0, 0], part_bytes, Vec::new());
        loop {
            let mut search = LineSearch::new(text, limit);
            let mut offset = 0;
            for (stream, payload) in records {
                let part_end = offset + payload.len() as u64;
                let own = if *stream == Stream::Stdout { from[0] } else { from[1] };
                let (low, high) = (own.max(offset), until.min(part_end));
                if low < high {
                    let part = (low - offset) as usize..(high - offset) as usize;
                    search.push(*stream, low, &payload[part]);
                }
                offset = part_end;
            }
            let is_full = search.is_full();
            let (found, next) = match until >= end && !is_full {
                true => search.finish(),
                false => {
                    let (found, next) = search.pause(until);
                    (found, Some(next))
                }
            };
            assert!(found.len() <= limit, "{found:?}");
            hits.extend(found);
            let Some(next) = next else { return hits };
            from = next;
            until += if is_full { 0 } else { part_bytes };
        }
    }

    fn records() -> impl Strategy<Value = Vec<(Stream, Vec<u8>)>> {
        let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
        let payload = "[abé€\n]{0,9}".prop_map(String::into_bytes);
        prop::collection::vec((stream, payload), 0..12)
    }

    proptest! {
        #[test]
        fn hits_are_the_lines_that_have_the_text_in_one_search_and_in_several(
            records in records(),
            text in "[abé]{1,2}",
            part_bytes in 1..12u64,
            limit in 1..4usize,
        ) {
            let mut expected = Vec::new();
            for wanted in [Stream::Stdout, Stream::Stderr] {
                let (mut offset, mut line) = (0, (0, Vec::new()));
                for (stream, payload) in &records {
                    for byte in payload {
                        if *stream == wanted {
                            if line.1.is_empty() {
                                line.0 = offset;
                            }
                            line.1.push(*byte);
                            if *byte == b'\n' {
                                expected.push((wanted, std::mem::take(&mut line)));
                            }
                        }
                        offset += 1;
                    }
                }
                expected.push((wanted, line));
            }
            let has = |line: &[u8]| String::from_utf8_lossy(line).contains(&text);
            let mut expected: Vec<_> = expected.into_iter().filter(|(_, (_, line))| has(line)).map(|(stream, (offset, _))| (offset, stream)).collect();
            expected.sort_by_key(|(offset, _)| *offset);
            let offsets = |hits: Vec<Hit>| { let mut found: Vec<_> = hits.into_iter().map(|hit| (hit.offset_bytes, hit.stream)).collect(); found.sort_by_key(|(offset, _)| *offset); found };
            prop_assert_eq!(offsets(search(&records, &text)), expected.clone());
            prop_assert_eq!(offsets(in_several(&records, &text, part_bytes, limit)), expected);
        }
    }

    #[test]
    fn what_a_terminal_does_not_show_is_not_searched() {
        let line = b"10 %\r\x1b[31mDONE\x1b[0m\x1b]0;title\x07\r\n".to_vec();
        let hits = search(&[(Stream::Stderr, line.clone())], "done");
        assert_eq!(hits, [Hit { stream: Stream::Stderr, offset_bytes: 0, text: "DONE".into() }]);
        for hidden in ["10 %", "[31m", "title"] {
            assert_eq!(search(&[(Stream::Stdout, line.clone())], hidden), [], "{hidden}");
        }
    }

    #[test]
    fn a_line_without_an_end_keeps_no_search_from_continuing() {
        let mut search = LineSearch::new("x", 9);
        search.push(Stream::Stderr, 0, b"prompt x");
        let filler = vec![b'\n'; MAX_LINE_BYTES + 1];
        search.push(Stream::Stdout, 8, &filler);
        let end = 8 + filler.len() as u64;
        let (hits, next) = search.pause(end);
        assert_eq!((hits.len(), next), (1, [end, end]));
    }

    #[test]
    fn the_text_of_a_hit_is_short_and_has_the_match() {
        let line = format!("{}Match{}", "a".repeat(5_000), "b".repeat(5_000));
        let hits = search(&[(Stream::Stdout, line.into_bytes())], "match");
        assert_eq!(hits[0].text.chars().count(), MAX_HIT_CHARS);
        assert!(hits[0].text.contains("Match"));
    }
}
