//! Writes log lines of time, level and text to standard error or to a collector.
//!
//! Deliberately not a logging framework: the supervisor logs a few lines a day and must stay small.

use std::fmt;
use std::io::{PipeWriter, Write as _};
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use muster_protocol::program::log_format::LogFormat;
use serde_json::json;

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An error.
    Error,
    /// Something unexpected that the supervisor can handle.
    Warn,
    /// A change of state.
    Info,
}

impl Level {
    /// Reads `MUSTER_LOG`, which the agent shares and may set to a filter (`debug`,
    /// `muster_agent=trace`): any text that is not one of these levels means [`Level::Info`].
    pub fn from_setting(setting: Option<&str>) -> Self {
        match setting.map(str::trim) {
            Some(text) if text.eq_ignore_ascii_case("error") => Self::Error,
            Some(text) if text.eq_ignore_ascii_case("warn") => Self::Warn,
            _ => Self::Info,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
        }
    }
}

/// Writes lines of at least one severity.
#[derive(Debug, Clone)]
pub struct Log {
    threshold: Level,
    format: LogFormat,
    /// Used instead of standard error.
    collector: Option<Arc<PipeWriter>>,
}

impl Log {
    /// Drops lines that are less severe than `threshold`.
    pub fn new(threshold: Level, format: LogFormat) -> Self {
        Self { threshold, format, collector: None }
    }

    /// Sends every further line to `collector`.
    pub fn collected_by(self, collector: PipeWriter) -> Self {
        Self { collector: Some(Arc::new(collector)), ..self }
    }

    /// Logs an error.
    pub fn error(&self, line: impl fmt::Display) {
        self.write(Level::Error, line);
    }

    /// Logs a warning.
    pub fn warn(&self, line: impl fmt::Display) {
        self.write(Level::Warn, line);
    }

    /// Logs a change of state.
    pub fn info(&self, line: impl fmt::Display) {
        self.write(Level::Info, line);
    }

    fn write(&self, level: Level, line: impl fmt::Display) {
        if level > self.threshold {
            return;
        }
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let text = self.format_line(&at, level, &line);
        // A log without a reader must not stop the agent.
        let _ = match &self.collector {
            Some(collector) => collector.as_ref().write_all(text.as_bytes()),
            None => std::io::stderr().write_all(text.as_bytes()),
        };
    }
    /// A line with its end. In JSON it has the fields of the agent's lines.
    fn format_line(&self, at: &str, level: Level, line: &dyn fmt::Display) -> String {
        let level = level.name();
        match self.format {
            LogFormat::Text => format!("{at} [{level}] supervisor: {line}\n"),
            LogFormat::Json => {
                let message = line.to_string();
                let event = json!({"timestamp": at, "level": level, "target": "muster_supervisor", "message": message});
                format!("{event}\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_in_json_is_one_object_with_the_whole_text() {
        let line = |format| {
            let text = "stopped:\n\"quoted\"";
            Log::new(Level::Info, format).format_line(
                "2026-01-01T00:00:00.000Z",
                Level::Warn,
                &text,
            )
        };
        assert!(line(LogFormat::Text).starts_with("2026-01-01T00:00:00.000Z [WARN] supervisor: "));
        let text = line(LogFormat::Json);
        assert_eq!(text.lines().count(), 1, "{text}");
        let event: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&event["level"], &event["message"]),
            (&"WARN".into(), &"stopped:\n\"quoted\"".into())
        );
    }
}
