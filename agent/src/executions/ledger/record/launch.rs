//! What a shim starts.

use muster_protocol::commands::file_transfer::FileOperation;
use muster_protocol::commands::step::OnFailure;
use muster_protocol::library::TriggerCall;
use muster_protocol::package::ServiceSettings;
use muster_protocol::parameter::secret_parameters::SecretDelivery;
use serde::{Deserialize, Serialize};

/// What a shim starts, and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Relative to the scripts folder; empty for an ad-hoc command.
    pub path: String,
    /// The program and arguments of an ad-hoc command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    #[serde(default)]
    pub interpreter: Option<String>,
    #[serde(default)]
    pub args: Vec<String>,
    /// Hex SHA-256 that the file must have when it starts.
    #[serde(default)]
    pub sha256: Option<String>,
    /// The script's name in the manifest, for people.
    #[serde(default)]
    pub script: Option<String>,
    /// For a script of the library, whose `path` is the name of a file in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<LibraryLaunch>,
    /// For a package: `path` is a file of it, and `sha256` that of its archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageLaunch>,
    /// For a transfer of a file, which has no script: `sha256` is that of the pushed file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Box<FileLaunch>>,
    /// For a package that is kept running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Box<ServiceSettings>>,
    /// For a script of the library with a trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<TriggerCall>,
    /// The `requirements.txt` of a script of the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<String>,
    /// Parameters whose values are files, in base64: the script gets paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_parameters: Vec<String>,
    /// It gets dummy secrets, and where they come out is reported.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_rehearsal: bool,
    /// It starts the agent's own program, which only reports that it runs. Nothing else of this record chooses
    /// what runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_probe: bool,
    /// What the host's policy allowed when the command was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The user that it runs as; the agent's own user if absent.
    #[serde(default)]
    pub run_as: Option<String>,
    /// Several runs, one after the other, which share time limit, output and user. Nothing else of this record
    /// is about one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepLaunch>,
    #[serde(default, skip_serializing_if = "SecretDelivery::is_environment")]
    pub secrets: SecretDelivery,
    pub timeout_ms: u64,
    pub output_limit_bytes: u64,
    pub output_quota_bytes: u64,
}

impl Launch {
    /// True if the agent downloads something before it starts.
    pub fn needs_download(&self) -> bool {
        let is_push = |file: &FileLaunch| file.operation == FileOperation::Push;
        self.package.is_some() || self.file.as_deref().is_some_and(is_push)
    }
}

/// One of several runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLaunch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Without steps of its own.
    pub launch: Launch,
}

/// What only scripts of the library have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryLaunch {
    pub version: u32,
}

/// What only packages have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageLaunch {
    pub version: String,
    /// Size of the archive.
    pub archive_bytes: u64,
}

/// What only transfers of files have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLaunch {
    pub operation: FileOperation,
    /// A folder that the host's policy lists.
    pub root: String,
    /// The path of the file below it: plain names.
    pub path: String,
    /// Hex SHA-256 of the content of a push.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Size of the content of a push.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Requested permissions.
    #[serde(default)]
    pub mode: Option<u32>,
    /// The permissions that the policy allows.
    pub max_mode: u32,
    /// The requested owner.
    #[serde(default)]
    pub owner: Option<String>,
    /// The largest file.
    pub max_bytes: u64,
}
