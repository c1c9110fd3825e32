//! The format of log lines, the same in all programs that run as services.

use std::str::FromStr;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object in each line, for programs.
    Json,
}

/// No format has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be `text` or `json`")]
pub struct UnknownLogFormat;

impl LogFormat {
    /// The text that is read as this format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    /// An empty text is the default, because compose files set unused variables to one.
    fn from_str(text: &str) -> Result<Self, UnknownLogFormat> {
        match text {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}
