//! Output of a script on its way to a terminal: text and colours get there, and nothing that would move
//! the cursor, set a title, write to the clipboard, or make the terminal answer.
//!
//! Knows no server. Where no terminal reads, output passes as it is and does not come through here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anstyle_parse::{Params, Parser, Perform};
use tokio::io::AsyncWrite;

use crate::output::is_harmful;

const RESET: &[u8] = b"\x1b[0m";

/// Writes to a terminal what is harmless of what is written to it.
///
/// Sequences may come in any number of pieces; an unfinished one is held back. Memory: as much as one
/// write, and 1 KiB.
pub struct Screen<W> {
    terminal: W,
    parser: Parser,
    harmless: Harmless,
    /// Of what is to be written, how much has been.
    written: usize,
}

/// Takes out of output, in whatever pieces it comes, what a terminal must not be given.
#[derive(Default)]
pub struct Filter {
    parser: Parser,
    harmless: Harmless,
}

impl Filter {
    /// What may be shown of these bytes and of what was held back before them.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            self.parser.advance(&mut self.harmless, *byte);
        }
        std::mem::take(&mut self.harmless.bytes)
    }

    /// What is to be shown behind the last of it: what follows is not to have its colours.
    pub fn end(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.harmless.is_coloured) { RESET } else { &[] }
    }
}

/// What may be shown, gathered.
#[derive(Default)]
struct Harmless {
    bytes: Vec<u8>,
    /// The script has coloured what follows.
    is_coloured: bool,
}

impl<W> Screen<W> {
    pub fn new(terminal: W) -> Self {
        Self { terminal, parser: Parser::default(), harmless: Harmless::default(), written: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.parser.advance(&mut self.harmless, *byte);
        }
    }
}

impl<W: AsyncWrite + Unpin> Screen<W> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.harmless.bytes.len() {
            let rest = &self.harmless.bytes[self.written..];
            let count = ready!(Pin::new(&mut self.terminal).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.harmless.bytes.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Screen<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // What came before goes first; only then is more taken, so that nothing piles up.
        ready!(this.poll_drain(context))?;
        this.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.terminal).poll_flush(context)
    }

    /// What follows is not the script's: it is not to have its colours.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.harmless.is_coloured) {
            this.harmless.bytes.extend(RESET);
        }
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.terminal).poll_flush(context)
    }
}

impl Perform for Harmless {
    fn print(&mut self, c: char) {
        let shown = if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c };
        self.bytes.extend(shown.encode_utf8(&mut [0; 4]).bytes());
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | b'\r' | b'\t') {
            self.bytes.push(byte);
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        // Only what selects colours and weights, and only as the terminal will read it too.
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

    /// What a terminal is given of these pieces.
    fn shown(pieces: &[&[u8]]) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut terminal = Vec::new();
            let mut screen = Screen::new(&mut terminal);
            for piece in pieces {
                screen.write_all(piece).await.expect("written");
            }
            screen.shutdown().await.expect("written");
            terminal
        })
    }

    /// True for printable text, line breaks, tabs and colours, and nothing else.
    fn is_harmless(shown: &[u8]) -> bool {
        let Ok(mut rest) = std::str::from_utf8(shown) else { return false };
        while let Some(c) = rest.chars().next() {
            let length = match rest.strip_prefix("\x1b[") {
                Some(behind) => match behind.find(|c: char| !matches!(c, '0'..='9' | ';' | ':')) {
                    Some(end) if behind[end..].starts_with('m') => 2 + end + 1,
                    _ => return false,
                },
                None if matches!(c, '\n' | '\r' | '\t') || !is_harmful(c) => c.len_utf8(),
                None => return false,
            };
            rest = &rest[length..];
        }
        true
    }

    #[test]
    fn text_and_colours_pass_in_however_many_pieces() {
        let text = "ü \x1b[1;38;5;196mred\x1b[0m\t1\r\n\x1b[4:3mwavy\x1b[m 🦀".as_bytes();
        let expected = "ü \x1b[1;38;5;196mred\x1b[0m\t1\r\n\x1b[4:3mwavy\x1b[0m 🦀".as_bytes();
        assert_eq!(shown(&[text]), expected);
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(shown(&bytes), expected);
    }

    #[test]
    fn what_would_steer_the_terminal_does_not_reach_it() {
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
        fn nothing_but_text_and_colours_is_shown_whatever_comes_in_whatever_pieces(
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
            prop_assert!(is_harmless(&shown_in_pieces), "{shown_in_pieces:?}");
            prop_assert_eq!(shown(&[&bytes]), shown_in_pieces);
        }
    }
}
