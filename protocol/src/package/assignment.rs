//! Assignments: packages and scripts that a server wants on a host, and the runs that a host starts itself.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PackagePin, ServiceControl, ServiceReport, TaskSchedule, open_document};
use crate::library::{ContentError, MAX_SCRIPT_BYTES, ScriptDocument, ScriptPin, ScriptSignature};
use crate::parameter::Parameters;

/// The capability of an agent that takes assignments.
pub const ASSIGNMENTS_CAPABILITY: &str = "assignments";
/// The capability of an agent that takes scripts of the library as assignments.
pub const ASSIGNED_SCRIPTS_CAPABILITY: &str = "assigned_scripts";
/// Most assignments of one agent.
pub const MAX_AGENT_ASSIGNMENTS: usize = 32;
/// Largest document of a package or a script that is assigned, in bytes. All of an agent fit into a frame.
pub const MAX_ASSIGNED_DOCUMENT_BYTES: usize = 8 * 1024;
/// Largest parameters of an assignment, as JSON.
pub const MAX_ASSIGNED_PARAMETERS_BYTES: usize = 4 * 1024;

/// A package or a script that a host must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AssignedItem {
    pub assignment_id: Uuid,
    /// Without the prefix `package:` or `library:`.
    pub name: String,
    /// Of a script: the number of its version, and the SHA-256 of its body instead of an archive.
    pub package: PackagePin,
    /// What the pin names: the document of the package or the script, JSON as text.
    pub document: String,
    /// What publishers have signed about the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<ScriptSignature>,
    /// Of each run. An assignment keeps them as long as it exists.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// Of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ServiceControl>,
    /// Of a script of the library; absent for a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<AssignedScript>,
}

/// What an assignment says of a script beside its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AssignedScript {
    /// When it is due.
    pub schedule: TaskSchedule,
    /// Size of its body, which the host downloads.
    pub body_bytes: u64,
}

impl AssignedItem {
    /// The size of what the host downloads; `None` if the document is not what the pin names.
    pub fn download_bytes(&self) -> Option<u64> {
        match &self.script {
            Some(script) => {
                let is_pinned = self.script_document().is_ok();
                (is_pinned && script.body_bytes <= MAX_SCRIPT_BYTES as u64)
                    .then_some(script.body_bytes)
            }
            None => {
                let document = open_document(&self.document, &self.name, &self.package).ok()?;
                Some(document.archive_bytes)
            }
        }
    }

    /// The document of a script.
    ///
    /// # Errors
    /// [`ContentError`] if it is not what the pin names.
    pub fn script_document(&self) -> Result<ScriptDocument, ContentError> {
        let pin = self.script_pin().ok_or(ContentError::Other)?;
        ScriptDocument::open(&self.document, &self.name, &pin)
    }

    /// The pin of a script, as commands have it; `None` of a package.
    pub fn script_pin(&self) -> Option<ScriptPin> {
        self.script.as_ref()?;
        self.package.of_script()
    }
}

/// How far a host is with an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// The archive is being downloaded, or waits for that.
    Downloading,
    /// It is there, and its schedule holds.
    Installed,
    /// The host refuses it, or can't get it.
    Failed,
}

impl AssignmentState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Installed => "installed",
            Self::Failed => "failed",
        }
    }
}

/// What a host reports about an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AssignmentReport {
    pub assignment_id: Uuid,
    /// The version of the package that the state is about.
    pub version: String,
    pub state: AssignmentState,
    /// With `failed`: a stable code for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// With `failed`: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Due times that did not become a run, since the host has the assignment.
    #[serde(default)]
    pub skipped_count: u64,
    /// Of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceReport>,
}

/// A run of a task or a service that the host has started itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskRun {
    pub assignment_id: Uuid,
    /// When a task was due, or when a service was started, in milliseconds since the Unix epoch.
    pub due_at_ms: u64,
    /// The version that ran.
    pub package: PackagePin,
    /// Longest time of the run; [`super::SERVICE_TIMEOUT_MS`] for a service.
    pub timeout_ms: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_service: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl TaskRun {
    /// The id of the command on this agent. An assignment has one run for each due time, because the id
    /// follows from both. It is a UUIDv7 of the due time.
    pub fn command_id(&self, agent_id: Uuid) -> Uuid {
        Self::id(agent_id, self.assignment_id, self.due_at_ms)
    }

    /// The id of the run of an assignment with this due time or start.
    pub fn id(agent_id: Uuid, assignment_id: Uuid, due_at_ms: u64) -> Uuid {
        let mut context = Context::new(&SHA256);
        context.update(b"muster task run 1");
        context.update(agent_id.as_bytes());
        context.update(assignment_id.as_bytes());
        context.update(&due_at_ms.to_be_bytes());
        let mut tail = [0; 10];
        tail.copy_from_slice(&context.finish().as_ref()[..10]);
        uuid::Builder::from_unix_timestamp_millis(due_at_ms, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn run(assignment: u128, due_at_ms: u64) -> TaskRun {
        let package = PackagePin {
            version: "1".into(),
            sha256: String::new(),
            document_sha256: String::new(),
        };
        TaskRun {
            assignment_id: Uuid::from_u128(assignment),
            due_at_ms,
            package,
            timeout_ms: 1,
            is_service: false,
        }
    }

    #[test]
    fn agent_assignment_and_due_time_make_one_id() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let ids = BTreeSet::from([
            run(7, 1_000).command_id(one),
            run(7, 1_000).command_id(other),
            run(8, 1_000).command_id(one),
            run(7, 1_001).command_id(one),
        ]);
        assert_eq!(ids.len(), 4);
        let mut again = run(7, 1_000);
        again.package.version = "2".into();
        assert!(ids.contains(&again.command_id(one)), "a new version does not run twice");
        let id = run(7, 1_767_225_600_000).command_id(one);
        assert_eq!(id.get_version_num(), 7);
        let (seconds, _) = id.get_timestamp().expect("a time").to_unix();
        assert_eq!(seconds, 1_767_225_600);
    }
}
