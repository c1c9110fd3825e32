//! Output of several agents, line by line behind their names.
//!
//! Pure.

use crate::live_output::Stream;
use crate::screen::Filter;

/// A line that is longer is shown in pieces.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// One execution's output on its way to whole lines.
#[derive(Debug)]
pub struct Lines {
    name: String,
    begun: [Vec<u8>; 2],
    /// Which streams a terminal shows.
    is_shown: [bool; 2],
}

impl Lines {
    /// Of the agent with this name, as it is to be shown; `is_shown`: of which streams, stdout and
    /// stderr, a terminal is given only what is harmless in a line.
    pub fn new(name: String, is_shown: [bool; 2]) -> Self {
        Self { name, begun: [Vec::new(), Vec::new()], is_shown }
    }

    /// Whole lines, as far as there are any.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let index = usize::from(stream == Stream::Stderr);
        let (begun, is_shown) = (&mut self.begun[index], self.is_shown[index]);
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || begun.len() >= MAX_LINE_BYTES {
                write(&self.name, begun, is_shown, &mut lines);
            }
        }
        lines
    }

    /// What was begun and will not go on.
    pub fn rest(&mut self, stream: Stream) -> Vec<u8> {
        let mut lines = Vec::new();
        let index = usize::from(stream == Stream::Stderr);
        let (begun, is_shown) = (&mut self.begun[index], self.is_shown[index]);
        if !begun.is_empty() {
            write(&self.name, begun, is_shown, &mut lines);
        }
        lines
    }
}

fn write(name: &str, begun: &mut Vec<u8>, is_shown: bool, lines: &mut Vec<u8>) {
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(b" | ");
    if is_shown {
        // A return would write over the name; colours end with their line, which is one agent's.
        begun.retain(|byte| *byte != b'\r' && *byte != b'\n');
        let mut filter = Filter::default();
        lines.extend(filter.take(begun));
        lines.extend(filter.end());
        begun.clear();
    } else {
        lines.append(begun);
    }
    if !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_agents_name_and_streams_do_not_mix() {
        let mut lines = Lines::new("web-1".into(), [false; 2]);
        assert_eq!(lines.take(Stream::Stdout, b"one\ntw"), b"web-1 | one\n");
        assert_eq!(lines.take(Stream::Stderr, b"oh\n"), b"web-1 | oh\n");
        assert_eq!(lines.take(Stream::Stdout, b"o\n\nthree"), b"web-1 | two\nweb-1 | \n");
        assert_eq!(lines.rest(Stream::Stdout), b"web-1 | three\n");
        assert_eq!(lines.rest(Stream::Stdout), b"");
        assert_eq!(lines.rest(Stream::Stderr), b"");
    }

    #[test]
    fn on_a_terminal_no_line_passes_for_another_agents() {
        let mut lines = Lines::new("a".into(), [true, false]);
        let tricks = b"\x1b[31mred\rb | fine\x1b[1A\nnext\n";
        assert_eq!(
            lines.take(Stream::Stdout, tricks),
            b"a | \x1b[31mredb | fine\x1b[0m\na | next\n"
        );
        assert_eq!(lines.take(Stream::Stderr, b"\x1b[1A\n"), b"a | \x1b[1A\n");
    }

    #[test]
    fn a_line_without_an_end_is_shown_in_pieces() {
        let mut lines = Lines::new("a".into(), [false; 2]);
        let shown = lines.take(Stream::Stdout, &vec![b'x'; MAX_LINE_BYTES]);
        assert_eq!(shown.len(), MAX_LINE_BYTES + "a | \n".len());
    }
}
