//! Exit codes of an agent. They decide what its supervisor does next.

/// The exit codes with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// 0: stopped on request; stay stopped.
    Stop,
    /// 42: restart now.
    Restart,
    /// 43: install the requested version, then restart.
    Update,
    /// 44: download and install the current version again, then restart.
    Redeploy,
    /// 99: can't work as configured; stay stopped and report why.
    Fatal,
}

impl ExitCode {
    /// The number the process exits with.
    pub const fn code(self) -> i32 {
        match self {
            Self::Stop => 0,
            Self::Restart => 42,
            Self::Update => 43,
            Self::Redeploy => 44,
            Self::Fatal => 99,
        }
    }

    /// The meaning of an exit code; `None` for any other code (a crash).
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Stop),
            42 => Some(Self::Restart),
            43 => Some(Self::Update),
            44 => Some(Self::Redeploy),
            99 => Some(Self::Fatal),
            _ => None,
        }
    }
}
