//! What an agent key allows: the same check on the server and again on the host.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::CommandName;

/// The commands an agent key allows. Permission is law: what is not listed is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Permissions(BTreeSet<CommandName>);

impl Permissions {
    /// Exactly these commands.
    pub fn new(commands: impl IntoIterator<Item = CommandName>) -> Self {
        Self(commands.into_iter().collect())
    }

    /// True if the command may be sent to, and carried out by, an agent of this key.
    pub fn allows(&self, command: CommandName) -> bool {
        self.0.contains(&command)
    }

    /// The commands, in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = CommandName> + '_ {
        self.0.iter().copied()
    }
}

impl Default for Permissions {
    /// What a new key allows unless asked otherwise: everything but the commands that end the agent.
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
