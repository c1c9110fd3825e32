//! The programs that a host is given.

use serde::{Deserialize, Serialize};

/// One of the programs of a release. Its name is safe as a part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Program {
    #[serde(rename = "muster-agent")]
    Agent,
    #[serde(rename = "muster-supervisor")]
    Supervisor,
}

impl Program {
    /// Every program; a release has all of them for each of its platforms.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Supervisor];

    /// The program whose file has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.file_name() == name)
    }

    /// The name of its file, without what a platform puts behind it.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Agent => "muster-agent",
            Self::Supervisor => "muster-supervisor",
        }
    }
}
