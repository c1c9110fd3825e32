//! What an agent asks of its supervisor, and what the supervisor answers: two files in the state
//! directory.

use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The name of the file that holds an [`UpdateRequest`].
pub const UPDATE_REQUEST_FILE: &str = "update_request.json";
/// The name of the file that holds an [`UpdateResult`].
pub const UPDATE_RESULT_FILE: &str = "update_result.json";

/// What `muster-agent fetch-release` ends with if the disk is full: it can't write down why.
pub const NO_SPACE_EXIT: u8 = 28;

/// What the agent asks for before it ends with 43 or 44. It stays until the agent has taken note
/// of the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// The command that asked for it; absent if the agent wishes it by itself.
    #[serde(default)]
    pub command_id: Option<Uuid>,
    pub version: Version,
}

/// What came of a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateResult {
    /// Of the wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    pub outcome: UpdateOutcome,
    /// The version that was there.
    pub from_version: String,
    /// The version that was wished.
    pub to_version: String,
    /// A stable name of the reason, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A sentence.
    pub message: String,
}

/// How an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpdateOutcome {
    /// The agent of the wished version has registered.
    Installed,
    /// It was in place already.
    Unchanged,
    /// It was tried, and the version before it runs again.
    RolledBack,
    /// It was not taken: the host's rules forbid it.
    Refused,
    /// It could not be had or not be tried.
    Failed,
}

impl UpdateOutcome {
    /// True if the host runs what was wished.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Installed | Self::Unchanged)
    }

    /// The name in files, frames and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Unchanged => "unchanged",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl UpdateResult {
    /// True if it is the answer to this wish.
    pub fn is_of(&self, wish: &UpdateRequest) -> bool {
        self.command_id == wish.command_id && self.to_version == wish.version.to_string()
    }
}
