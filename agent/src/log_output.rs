//! Where the log goes: standard error, each event one line in which nothing acts on a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use muster_protocol::program::log_format::LogFormat;

/// Writes each event as one line of `W`. Texts of the server are in many events, so that all of a
/// line is escaped here.
#[derive(Debug)]
pub struct LogOutput<W> {
    pub out: W,
    pub format: LogFormat,
}

impl<W: Write> Write for LogOutput<W> {
    /// The caller passes an event at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = escaped(text.strip_suffix('\n').unwrap_or(&text), self.format);
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Escapes what is not printable. Backslashes stay single: the texts in a line were escaped before.
fn escaped(text: &str, format: LogFormat) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match (character, format) {
            ('"' | '\'' | '\\', _) => shown.push(character),
            (_, LogFormat::Text) => shown.extend(character.escape_debug()),
            (_, LogFormat::Json) if character.escape_debug().len() == 1 => shown.push(character),
            // Outside of strings a line has printable characters only, so this is valid JSON.
            (_, LogFormat::Json) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
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

    const HOSTILE: &str = "9\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\r\u{202e}\u{e0001}\"é";

    fn logged(format: LogFormat) -> String {
        let written = Shared::default();
        let output = written.clone();
        let log = tracing_subscriber::fmt()
            .with_writer(move || LogOutput { out: output.clone(), format })
            .with_ansi(false);
        let event = || tracing::info!(server_version = %HOSTILE, "registered {HOSTILE}");
        match format {
            LogFormat::Text => tracing::subscriber::with_default(log.finish(), event),
            LogFormat::Json => {
                tracing::subscriber::with_default(log.json().flatten_event(true).finish(), event);
            }
        }
        let log = String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("text");
        assert_eq!(log.lines().count(), 1, "{log:?}");
        assert!(log.ends_with('\n') && log.contains("\\n2026-01-01"), "{log:?}");
        assert!(!log.contains(['\u{1b}', '\r', '\u{202e}', '\u{e0001}']), "{log:?}");
        log
    }

    #[test]
    fn a_text_of_the_server_forges_no_line_and_moves_no_cursor() {
        logged(LogFormat::Text);
    }

    #[test]
    fn a_line_in_json_has_exactly_the_text_of_the_server() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).expect("JSON");
        assert_eq!(line["server_version"], HOSTILE);
        assert_eq!(line["message"], format!("registered {HOSTILE}"));
    }
}
