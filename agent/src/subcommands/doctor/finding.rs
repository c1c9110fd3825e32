//! The result of a check, and the list of all checks.

use serde::Serialize;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    Ok,
    /// The agent works, but the user should look at something.
    Warn,
    /// The agent can't work this way.
    Fail,
    /// Not checked, or nothing to check.
    Skipped,
}

impl CheckStatus {
    /// The name in JSON and on the screen.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// The checks in their order: later ones may depend on earlier ones.
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

    /// The name in JSON and on the screen.
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
    pub status: CheckStatus,
    /// The finding, for people.
    pub detail: String,
    /// What to do; absent if there is nothing to do.
    pub hint: Option<String>,
}

impl Finding {
    pub fn ok(check: Check, detail: impl Into<String>) -> Self {
        Self { check, status: CheckStatus::Ok, detail: detail.into(), hint: None }
    }

    pub fn warn(check: Check, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let (detail, hint) = (detail.into(), Some(hint.into()));
        Self { check, status: CheckStatus::Warn, detail, hint }
    }

    pub fn fail(check: Check, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let (detail, hint) = (detail.into(), Some(hint.into()));
        Self { check, status: CheckStatus::Fail, detail, hint }
    }

    /// There is nothing to check, or the check is impossible.
    pub fn skipped(check: Check, detail: impl Into<String>) -> Self {
        Self { check, status: CheckStatus::Skipped, detail: detail.into(), hint: None }
    }

    /// The check depends on another one that failed.
    pub fn skipped_after(check: Check, failed: Check) -> Self {
        Self::skipped(check, format!("not checked, because {} failed", failed.name()))
    }

    /// True if the checks that depend on this one can't be made.
    pub fn has_failed(&self) -> bool {
        self.status == CheckStatus::Fail
    }
}
