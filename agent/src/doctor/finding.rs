//! What a check came to, and the list of all of them.

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    /// The agent works, but something should be looked at.
    Warn,
    /// The agent can't work like this.
    Fail,
    /// Could not be checked, or there is nothing to check.
    Skipped,
}

impl Verdict {
    /// The word on the wire and on the screen.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// The checks, in the order in which they are made: a later one may rest on an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Configuration,
    StateDirectory,
    Disk,
    Manifest,
    Dns,
    Tcp,
    Proxy,
    Tls,
    Clock,
    Websocket,
    Key,
    Version,
}

impl Check {
    /// Every check, in order.
    pub const ALL: [Self; 12] = [
        Self::Configuration,
        Self::StateDirectory,
        Self::Disk,
        Self::Manifest,
        Self::Dns,
        Self::Tcp,
        Self::Proxy,
        Self::Tls,
        Self::Clock,
        Self::Websocket,
        Self::Key,
        Self::Version,
    ];

    /// The name on the wire and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::StateDirectory => "state_directory",
            Self::Disk => "disk",
            Self::Manifest => "manifest",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Clock => "clock",
            Self::Websocket => "websocket",
            Self::Key => "key",
            Self::Version => "version",
        }
    }
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: Check,
    pub verdict: Verdict,
    /// What was found, for people.
    pub detail: String,
    /// What to do; absent where nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    pub fn ok(check: Check, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    pub fn warn(check: Check, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (detail, remedy) = (detail.into(), Some(remedy.into()));
        Self { check, verdict: Verdict::Warn, detail, remedy }
    }

    pub fn fail(check: Check, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (detail, remedy) = (detail.into(), Some(remedy.into()));
        Self { check, verdict: Verdict::Fail, detail, remedy }
    }

    /// There is nothing to check, or no way to.
    pub fn skipped(check: Check, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skipped, detail: detail.into(), remedy: None }
    }

    /// Another check has to succeed first.
    pub fn skipped_after(check: Check, failed: Check) -> Self {
        Self::skipped(check, format!("not checked, because {} failed", failed.name()))
    }

    /// True if what comes after can't be checked.
    pub fn has_failed(&self) -> bool {
        self.verdict == Verdict::Fail
    }
}
