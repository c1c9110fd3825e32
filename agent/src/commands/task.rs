//! Decides about runs of what is assigned by the policy of the host, as about an `execute` of the same
//! package or script.

use std::fs;

use muster_protocol::CommandName;
use muster_protocol::frame::Command;
use muster_protocol::library::{LIBRARY_PREFIX, ScriptContent, sha256_hex};
use muster_protocol::limits::MAX_COMMAND_DATA_BYTES;
use muster_protocol::manifest::{Manifest, ManifestMismatch};
use muster_protocol::package::{AssignedItem, PACKAGE_PREFIX, PackageKind, open_document};
use serde_json::json;
use uuid::Uuid;

use super::execute::OutputLimits;
use super::planned::{HostRules, Planned};
use super::{decision, library, plan};
use crate::clock::unix_ms;
use crate::executions::ledger::record::Launch;
use crate::executions::{PlannedRun, RunPlanner, RunRefusal};
use crate::platform;
use crate::policy::minimum_versions::{Minimum, MinimumVersions};
use crate::policy::{self, Allow, Forbidden, PolicyFile};
use crate::storage::layout::StateDir;

/// Plans runs by the host's policy.
#[derive(Debug)]
pub struct TaskPlanner {
    state: StateDir,
    policy: PolicyFile,
    minimum_versions: MinimumVersions,
    output: OutputLimits,
}

impl TaskPlanner {
    /// Shares what statements of publishers have made the oldest versions.
    pub fn new(state: StateDir, minimum_versions: MinimumVersions, output: OutputLimits) -> Self {
        let policy = PolicyFile::open(&state);
        Self { state, policy, minimum_versions, output }
    }
}

impl RunPlanner for TaskPlanner {
    fn plan(&mut self, assigned: &AssignedItem) -> Result<PlannedRun, RunRefusal> {
        self.policy.reload();
        let refused = |code: &str, text: String| Err(RunRefusal::new(code, text));
        let policy = match self.policy.current() {
            Ok(policy) => policy,
            Err(reason) => return refused("invalid_policy", reason.to_owned()),
        };
        if policy.forbid.contains(&Forbidden::Services) && is_service(assigned) {
            let text = "the policy of this host forbids services";
            return refused("services_not_allowed", text.to_owned());
        }
        if policy.allow == Allow::Manifest {
            let reason = ManifestMismatch::LibraryNotAllowed;
            return refused(reason.code(), reason.to_string());
        }
        let mut command = command(assigned);
        let needed = policy.needs_approval.as_ref();
        if needed.is_some_and(|needed| needed.concerns(CommandName::Execute, &command.data)) {
            let text = "the policy of this host asks for the signed approval of each execution, which runs of tasks and services can't have; send the package as a job";
            return refused("capsule_required", text.to_owned());
        }
        if command.data.to_string().len() > MAX_COMMAND_DATA_BYTES {
            return refused("invalid_data", "the parameters are too large".to_owned());
        }
        if let Some(Err(reason)) = policy.run_as.as_deref().map(policy::check_run_as) {
            return refused("invalid_policy", reason.to_string());
        }
        let free = platform::disk_free_bytes(self.state.path());
        if free.is_ok_and(|free| free < decision::MIN_FREE_BYTES) {
            return refused("no_space", decision::no_space());
        }
        let rules = HostRules {
            manifest: &Manifest::default(),
            policy,
            minimum_versions: &self.minimum_versions,
            output: self.output,
            now_ms: unix_ms(),
        };
        if let Some(document) = &assigned.script {
            let checked = library::check_assigned(&command, rules, document.body_bytes);
            checked.map_err(|reason| RunRefusal::new(reason.code(), reason.to_string()))?;
            // Last, because the server may not have to send a body that is refused.
            let body = self.body_of(assigned)?;
            if let Some(content) = &mut command.content {
                content.body = body;
            }
        }
        match plan::plan(&command, rules) {
            Ok(Planned { launch, parameters, files, minimums }) => {
                let launch = Launch { run_as: policy.run_as.clone(), ..launch };
                Ok(PlannedRun { launch, parameters, files, minimums })
            }
            Err(reason) => refused(reason.code(), reason.to_string()),
        }
    }

    fn note_start(&mut self, minimums: &[Minimum]) -> Result<(), RunRefusal> {
        for minimum in minimums {
            let raised = self.minimum_versions.raise(minimum);
            raised.map_err(|error| RunRefusal::new("storage_failed", error.to_string()))?;
        }
        Ok(())
    }
}

impl TaskPlanner {
    /// The body of a script, if it is there as the assignment pins it.
    fn body_of(&self, assigned: &AssignedItem) -> Result<String, RunRefusal> {
        let path = self.state.package_archives().join(&assigned.package.sha256);
        let body = fs::read_to_string(path).ok();
        let is_pinned = |body: &String| sha256_hex(body.as_bytes()) == assigned.package.sha256;
        body.filter(is_pinned).ok_or_else(RunRefusal::not_downloaded)
    }
}

/// A document that can't be read is refused later.
fn is_service(assigned: &AssignedItem) -> bool {
    open_document(&assigned.document, &assigned.name, &assigned.package)
        .is_ok_and(|document| document.kind == PackageKind::Service)
}

/// The command that would run the package or the script once, without the body of a script.
fn command(assigned: &AssignedItem) -> Command {
    let data = match &assigned.script {
        Some(_) => json!({
            "script": format!("{LIBRARY_PREFIX}{}", assigned.name),
            "library": assigned.script_pin(),
            "parameters": assigned.parameters,
        }),
        None => json!({
            "script": format!("{PACKAGE_PREFIX}{}", assigned.name),
            "package": assigned.package,
            "parameters": assigned.parameters,
        }),
    };
    Command {
        command_id: Uuid::nil(),
        command: CommandName::Execute.as_str().to_owned(),
        data,
        timestamp: String::new(),
        start_within_ms: None,
        capsule: None,
        content: Some(Box::new(ScriptContent {
            document: assigned.document.clone(),
            body: String::new(),
            signatures: assigned.signatures.clone(),
        })),
        step_contents: Vec::new(),
        call: None,
        request_id: None,
    }
}
