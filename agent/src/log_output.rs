//! Where the log goes: standard error, each event one line in which nothing acts on a terminal.

use std::io::{self, Write};

/// Writes each event as one line of `W`. Texts of the server are in many events, so that all of a
/// line is escaped here.
#[derive(Debug)]
pub struct LogOutput<W>(pub W);

impl<W: Write> Write for LogOutput<W> {
    /// The caller passes an event at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = escaped(text.strip_suffix('\n').unwrap_or(&text));
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Escapes what is not printable. Backslashes stay single: the texts in a line were escaped before.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_text_of_the_server_forges_no_line_and_moves_no_cursor() {
        let written = Shared::default();
        let output = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || LogOutput(output.clone()))
            .with_ansi(false)
            .finish();
        let hostile = "9\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\r\u{202e}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(server_version = %hostile, "registered {hostile}");
        });
        let log = String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("text");
        assert_eq!(log.lines().count(), 1, "{log:?}");
        assert!(log.ends_with('\n') && log.contains("\\n2026-01-01"), "{log:?}");
        assert!(!log.contains(['\u{1b}', '\r', '\u{202e}']), "{log:?}");
    }
}
