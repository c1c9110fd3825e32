//! The update request of an agent to its supervisor, and the supervisor's result: two files in the
//! state directory.

use semver::Version;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The name of the file that holds an [`UpdateRequest`].
pub const UPDATE_REQUEST_FILE: &str = "update_request.json";
/// The name of the file that holds an [`UpdateResult`].
pub const UPDATE_RESULT_FILE: &str = "update_result.json";

/// The exit code of `muster-agent fetch-release` on a full disk, which can't store the reason.
pub const NO_SPACE_EXIT: u8 = 28;

/// The agent's request before it exits with 43 or 44. The file stays until the agent has read the
/// result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// The command that requested it; absent if the host requested it.
    #[serde(default)]
    pub command_id: Option<Uuid>,
    pub version: Version,
    /// Download and install the version also if it is installed and intact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reinstall: bool,
}

/// The result of an update request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateResult {
    /// The command of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    pub outcome: UpdateOutcome,
    /// The version before the update.
    pub from_version: String,
    /// The requested version.
    pub to_version: String,
    /// A stable code of the reason, unless the update succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A message for people.
    pub message: String,
}

/// How an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpdateOutcome {
    /// The agent of the requested version has registered.
    Installed,
    /// The version was already installed.
    Unchanged,
    /// It failed its trial, and the previous version runs again.
    RolledBack,
    /// The host's rules forbid it.
    Refused,
    /// It could not be downloaded or tried.
    Failed,
}

impl UpdateOutcome {
    /// True if the host runs the requested version.
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
    /// True if it is the result of this request.
    pub fn is_of(&self, request: &UpdateRequest) -> bool {
        self.command_id == request.command_id && self.to_version == request.version.to_string()
    }
}
