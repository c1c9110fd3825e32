//! Roles as users type them.

use clap::ValueEnum;

/// The role of a key or a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything, including API keys and members
    Owner,
    /// Agents, agent keys and commands, including ad-hoc commands
    Admin,
    /// Reads, and runs scripts
    Member,
    /// Reads everything, including the audit log
    Auditor,
}

impl Role {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Auditor => "auditor",
        }
    }
}
