//! Filters the output of a script for a terminal. Passes text and colours, and removes what would move the
//! cursor, set a title, write to the clipboard or make the terminal answer.
//!
//! Knows no server. Output to a file or a pipe does not come through here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anstyle_parse::{Params, Parser, Perform};
use tokio::io::AsyncWrite;

use super::text::is_control;

const RESET: &[u8] = b"\x1b[0m";

/// Writes filtered output to a terminal.
///
/// A sequence may arrive in several pieces; an unfinished one is held back. Memory: as much as one
/// write, and 1 KiB.
pub struct FilteredTerminal<W> {
    terminal: W,
    filter: TerminalFilter,
    /// Filtered bytes that the terminal has not taken yet.
    pending: Vec<u8>,
    /// How many of `pending` were written.
    written: usize,
}

/// Filters output that arrives in pieces.
#[derive(Default)]
pub struct TerminalFilter {
    parser: Parser,
    allowed: AllowedOutput,
}

impl TerminalFilter {
    /// What a terminal may get of these bytes and of those that were held back before.
    pub fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            self.parser.advance(&mut self.allowed, *byte);
        }
        std::mem::take(&mut self.allowed.bytes)
    }

    /// What to write after the last piece: resets the colours if the script has not.
    pub fn finish(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.allowed.is_coloured) { RESET } else { &[] }
    }
}

/// Collects what a terminal may get.
#[derive(Default)]
struct AllowedOutput {
    bytes: Vec<u8>,
    /// True while the script's colours are in force.
    is_coloured: bool,
}

impl<W> FilteredTerminal<W> {
    pub fn new(terminal: W) -> Self {
        Self { terminal, filter: TerminalFilter::default(), pending: Vec::new(), written: 0 }
    }
}

impl<W: AsyncWrite + Unpin> FilteredTerminal<W> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.pending.len() {
            let rest = &self.pending[self.written..];
            let count = ready!(Pin::new(&mut self.terminal).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.pending.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for FilteredTerminal<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Takes more only after the earlier bytes are written, so that memory stays bounded.
        ready!(this.poll_drain(context))?;
        this.pending = this.filter.filter(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.terminal).poll_flush(context)
    }

    /// Resets the colours, so that later output does not have them.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.pending.extend(this.filter.finish());
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.terminal).poll_flush(context)
    }
}

impl Perform for AllowedOutput {
    fn print(&mut self, c: char) {
        let shown = if is_control(c) { char::REPLACEMENT_CHARACTER } else { c };
        self.bytes.extend(shown.encode_utf8(&mut [0; 4]).bytes());
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | b'\r' | b'\t') {
            self.bytes.push(byte);
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        // Only sequences that select colours and weights, and only in the form that terminals agree on.
        if action != b'm' || ignore || !intermediates.is_empty() {
            return;
        }
        let fields: Vec<String> = params
            .iter()
            .map(|field| {
                let parts: Vec<_> = field.iter().map(u16::to_string).collect();
                parts.join(":")
            })
            .collect();
        self.is_coloured = !matches!(fields.last().map(String::as_str), None | Some("0"));
        self.bytes.extend(b"\x1b[");
        self.bytes.extend(fields.join(";").bytes());
        self.bytes.push(b'm');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    /// What a terminal gets of these pieces.
    fn shown(pieces: &[&[u8]]) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut terminal = Vec::new();
            let mut filtered = FilteredTerminal::new(&mut terminal);
            for piece in pieces {
                filtered.write_all(piece).await.expect("written");
            }
            filtered.shutdown().await.expect("written");
            terminal
        })
    }

    /// True for printable text, line breaks, tabs and colours, and nothing else.
    fn is_allowed(shown: &[u8]) -> bool {
        let Ok(mut rest) = std::str::from_utf8(shown) else { return false };
        while let Some(c) = rest.chars().next() {
            let length = match rest.strip_prefix("\x1b[") {
                Some(after) => match after.find(|c: char| !matches!(c, '0'..='9' | ';' | ':')) {
                    Some(end) if after[end..].starts_with('m') => 2 + end + 1,
                    _ => return false,
                },
                None if matches!(c, '\n' | '\r' | '\t') || !is_control(c) => c.len_utf8(),
                None => return false,
            };
            rest = &rest[length..];
        }
        true
    }

    #[test]
    fn text_and_colours_pass_in_any_number_of_pieces() {
        let text = "ü \x1b[1;38;5;196mred\x1b[0m\t1\r\n\x1b[4:3mwavy\x1b[m 🦀".as_bytes();
        let expected = "ü \x1b[1;38;5;196mred\x1b[0m\t1\r\n\x1b[4:3mwavy\x1b[0m 🦀".as_bytes();
        assert_eq!(shown(&[text]), expected);
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(shown(&bytes), expected);
    }

    #[test]
    fn control_sequences_do_not_reach_the_terminal() {
        for (text, expected) in [
            ("a\x1b[2J\x1b[Hb", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]52;c;aGk=\x1b\\b", "ab"),
            ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
            ("a\x1bP+q544e\x1b\\b", "ab"),
            ("a\x1b_Ga=T\x1b\\b", "ab"),
            ("a\x1bcb\x1b7", "ab"),
            ("a\x07\x08\x0e\x7fb", "a\u{fffd}b"),
            ("a\u{9b}31mb", "a\u{fffd}31mb"),
            ("a\u{202e}b", "a\u{fffd}b"),
            ("a\x1b[>4;1mb\x1b[?1mc", "abc"),
            ("a\x1b[3", "a"),
            ("\x1b[31ma", "\x1b[31ma\x1b[0m"),
        ] {
            assert_eq!(String::from_utf8_lossy(&shown(&[text.as_bytes()])), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn only_text_and_colours_pass_for_any_input_in_any_pieces(
            bytes in proptest::collection::vec(
                prop_oneof![
                    any::<u8>().boxed(),
                    proptest::sample::select(b"\x1b[]P_m;:0123?>\\\x07\x9b\x9d\x90\xc2".to_vec()).boxed(),
                ],
                0..400,
            ),
            size in 1usize..20,
        ) {
            let pieces: Vec<_> = bytes.chunks(size).collect();
            let shown_in_pieces = shown(&pieces);
            prop_assert!(is_allowed(&shown_in_pieces), "{shown_in_pieces:?}");
            prop_assert_eq!(shown(&[&bytes]), shown_in_pieces);
        }
    }
}
