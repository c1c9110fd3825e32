//! How an agent tells its supervisor what to do next.

/// The exit codes an agent gives a meaning to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// 0: stopped on purpose; stay stopped.
    Stop,
    /// 42: start again now.
    Restart,
    /// 43: fetch the wanted release, then start again.
    Update,
    /// 44: fetch the current release afresh, then start again.
    Redeploy,
    /// 99: can't ever work as configured; stay stopped and say why.
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

    /// The meaning of a number; `None` for any that has none (a crash).
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
