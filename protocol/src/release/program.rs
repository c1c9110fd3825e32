//! The programs that a host runs.

use serde::{Deserialize, Serialize};

/// One of the programs of a release. Its name is safe as part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Program {
    #[serde(rename = "muster-agent")]
    Agent,
    #[serde(rename = "muster-supervisor")]
    Supervisor,
}

impl Program {
    /// Every program. A release contains all of them for each platform.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Supervisor];

    /// The program whose file has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.file_name() == name)
    }

    /// The name of its file, without the platform's suffix.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Agent => "muster-agent",
            Self::Supervisor => "muster-supervisor",
        }
    }
}
