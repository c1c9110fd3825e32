//! The permissions of an agent key, checked by the server and again by the host.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::commands::command::CommandName;

/// The commands that an agent key allows. Any other command is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Permissions(BTreeSet<CommandName>);

impl Permissions {
    /// Exactly these commands.
    pub fn new(commands: impl IntoIterator<Item = CommandName>) -> Self {
        Self(commands.into_iter().collect())
    }

    /// True if the command may be sent to and run by an agent with this key.
    pub fn allows(&self, command: CommandName) -> bool {
        self.0.contains(&command)
    }

    /// The commands, in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = CommandName> + '_ {
        self.0.iter().copied()
    }
}

impl Default for Permissions {
    /// The default of a new key: every command except those that end the agent.
    fn default() -> Self {
        Self::new([
            CommandName::Ping,
            CommandName::Info,
            CommandName::Echo,
            CommandName::Scripts,
            CommandName::Execute,
        ])
    }
}
