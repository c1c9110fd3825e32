//! Output as whole lines, each after a prefix: the name of its agent, or when it was received.
//!
//! Pure.

use crate::api::output_stream::Stream;
use crate::output::terminal_filter::TerminalFilter;

/// Longest line; a longer one is printed in pieces.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Cuts the output of one execution into lines.
#[derive(Debug)]
pub struct PrefixedLines {
    prefix: String,
    unfinished: [Unfinished; 2],
    /// Which streams, stdout and stderr, are filtered for a terminal.
    is_filtered: [bool; 2],
}

/// The beginning of a line.
#[derive(Debug, Default)]
struct Unfinished {
    prefix: String,
    bytes: Vec<u8>,
}

impl PrefixedLines {
    /// Lines with this prefix, which must be sanitized.
    pub fn new(prefix: String, is_filtered: [bool; 2]) -> Self {
        Self { prefix, unfinished: Default::default(), is_filtered }
    }

    /// The prefix of the lines that start from now on, which must be sanitized.
    pub fn set_prefix(&mut self, prefix: String) {
        self.prefix = prefix;
    }

    /// The lines that these bytes complete.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let index = usize::from(stream == Stream::Stderr);
        let (unfinished, is_filtered) = (&mut self.unfinished[index], self.is_filtered[index]);
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if unfinished.bytes.is_empty() {
                unfinished.prefix.clone_from(&self.prefix);
            }
            unfinished.bytes.extend_from_slice(piece);
            if piece.ends_with(b"\n") || unfinished.bytes.len() >= MAX_LINE_BYTES {
                write_line(unfinished, is_filtered, &mut lines);
            }
        }
        lines
    }

    /// The last line, if it has no line break.
    pub fn finish(&mut self, stream: Stream) -> Vec<u8> {
        let mut lines = Vec::new();
        let index = usize::from(stream == Stream::Stderr);
        let (unfinished, is_filtered) = (&mut self.unfinished[index], self.is_filtered[index]);
        if !unfinished.bytes.is_empty() {
            write_line(unfinished, is_filtered, &mut lines);
        }
        lines
    }
}

fn write_line(unfinished: &mut Unfinished, is_filtered: bool, lines: &mut Vec<u8>) {
    let Unfinished { prefix, bytes: line } = unfinished;
    lines.extend_from_slice(prefix.as_bytes());
    lines.extend_from_slice(b" | ");
    if is_filtered {
        // A carriage return would overwrite the prefix. Colours must end with the line, because the next
        // line may be of another agent.
        line.retain(|byte| *byte != b'\r' && *byte != b'\n');
        let mut filter = TerminalFilter::default();
        lines.extend(filter.filter(line));
        lines.extend(filter.finish());
        line.clear();
    } else {
        lines.append(line);
    }
    if !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_starts_with_the_agent_name_and_streams_do_not_mix() {
        let mut lines = PrefixedLines::new("web-1".into(), [false; 2]);
        assert_eq!(lines.take(Stream::Stdout, b"one\ntw"), b"web-1 | one\n");
        assert_eq!(lines.take(Stream::Stderr, b"oh\n"), b"web-1 | oh\n");
        assert_eq!(lines.take(Stream::Stdout, b"o\n\nthree"), b"web-1 | two\nweb-1 | \n");
        assert_eq!(lines.finish(Stream::Stdout), b"web-1 | three\n");
        assert_eq!(lines.finish(Stream::Stdout), b"");
        assert_eq!(lines.finish(Stream::Stderr), b"");
    }

    #[test]
    fn filtered_line_can_not_imitate_a_line_of_another_agent() {
        let mut lines = PrefixedLines::new("a".into(), [true, false]);
        let tricks = b"\x1b[31mred\rb | fine\x1b[1A\nnext\n";
        assert_eq!(
            lines.take(Stream::Stdout, tricks),
            b"a | \x1b[31mredb | fine\x1b[0m\na | next\n"
        );
        assert_eq!(lines.take(Stream::Stderr, b"\x1b[1A\n"), b"a | \x1b[1A\n");
    }

    #[test]
    fn a_line_keeps_the_prefix_of_its_beginning() {
        let mut lines = PrefixedLines::new("1s".into(), [false; 2]);
        assert_eq!(lines.take(Stream::Stdout, b"one\ntw"), b"1s | one\n");
        lines.set_prefix("2s".into());
        assert_eq!(lines.take(Stream::Stdout, b"o\nthree\n"), b"1s | two\n2s | three\n");
    }

    #[test]
    fn very_long_line_is_printed_in_pieces() {
        let mut lines = PrefixedLines::new("a".into(), [false; 2]);
        let shown = lines.take(Stream::Stdout, &vec![b'x'; MAX_LINE_BYTES]);
        assert_eq!(shown.len(), MAX_LINE_BYTES + "a | \n".len());
    }
}
