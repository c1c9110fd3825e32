//! The commands that a server can send to an agent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a command, which is also the name of the permission that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CommandName {
    Ping,
    Info,
    Echo,
    Scripts,
    Execute,
    Restart,
    Update,
    Redeploy,
    Shutdown,
}

/// Whether a command outlives the request that created it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Answered or failed at once; never stored or queued.
    Transient,
    /// Stored before it is sent, and tracked until a terminal state.
    Durable,
}

impl CommandName {
    /// Every command, in the order of help texts.
    pub const ALL: [Self; 9] = [
        Self::Ping,
        Self::Info,
        Self::Echo,
        Self::Scripts,
        Self::Execute,
        Self::Restart,
        Self::Update,
        Self::Redeploy,
        Self::Shutdown,
    ];

    /// The name on the wire and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Info => "info",
            Self::Echo => "echo",
            Self::Scripts => "scripts",
            Self::Execute => "execute",
            Self::Restart => "restart",
            Self::Update => "update",
            Self::Redeploy => "redeploy",
            Self::Shutdown => "shutdown",
        }
    }

    /// Transient or durable.
    pub const fn durability(self) -> Durability {
        match self {
            Self::Ping | Self::Info | Self::Echo | Self::Scripts => Durability::Transient,
            _ => Durability::Durable,
        }
    }

    /// True for the commands that end the agent's process.
    pub const fn is_lifecycle(self) -> bool {
        matches!(self, Self::Restart | Self::Update | Self::Redeploy | Self::Shutdown)
    }
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command name that is not one of [`CommandName::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown command; use one of ping, info, echo, scripts, execute, restart, update, redeploy, shutdown"
)]
pub struct UnknownCommand;

impl FromStr for CommandName {
    type Err = UnknownCommand;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or(UnknownCommand)
    }
}
