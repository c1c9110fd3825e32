//! One line of log: time, level, sentence. To standard error, or to whoever collects lines.
//!
//! Deliberately not a logging framework: the supervisor says a few lines a day and must stay small.

use std::fmt;
use std::io::{PipeWriter, Write as _};
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd, and the supervisor goes on.
    Warn,
    /// A change of state.
    Info,
}

impl Level {
    /// Reads `MUSTER_LOG`, which the agent shares and may give a finer meaning to (`debug`,
    /// `muster_agent=trace`): whatever is no level of ours means [`Level::Info`].
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

/// Writes lines of at least one level.
#[derive(Debug, Clone)]
pub struct Log {
    threshold: Level,
    /// Takes the place of standard error.
    collector: Option<Arc<PipeWriter>>,
}

impl Log {
    /// Lines that matter less than `threshold` are dropped.
    pub fn new(threshold: Level) -> Self {
        Self { threshold, collector: None }
    }

    /// Hands every line to `collector` from now on.
    pub fn collected_by(self, collector: PipeWriter) -> Self {
        Self { collector: Some(Arc::new(collector)), ..self }
    }

    /// Something is broken.
    pub fn error(&self, line: impl fmt::Display) {
        self.write(Level::Error, line);
    }

    /// Something is odd.
    pub fn warn(&self, line: impl fmt::Display) {
        self.write(Level::Warn, line);
    }

    /// A change of state.
    pub fn info(&self, line: impl fmt::Display) {
        self.write(Level::Info, line);
    }

    fn write(&self, level: Level, line: impl fmt::Display) {
        if level > self.threshold {
            return;
        }
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let text = format!("{at} [{}] supervisor: {line}\n", level.name());
        // A log nobody reads any more is no reason to let the agent down.
        let _ = match &self.collector {
            Some(collector) => collector.as_ref().write_all(text.as_bytes()),
            None => std::io::stderr().write_all(text.as_bytes()),
        };
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
