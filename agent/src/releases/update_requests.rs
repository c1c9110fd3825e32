//! What this host has wished for and not yet heard of again.
//!
//! The wish is a file that the supervisor reads after the agent has ended with 43 or 44; the
//! verdict is a file that the supervisor writes. A wish by command stays in the inventory until
//! there is a verdict, which then is the command's result.

use std::env;
use std::fs;
use std::time::Duration;

use muster_protocol::ExitCode;
use muster_protocol::frame::{InventoryItem, InventoryState, Outcome, Response};
use muster_protocol::release::{UpdateOutcome, UpdateRequest, UpdateResult, Version};
use muster_protocol::version;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::Path;
use tokio::time::Instant;
use uuid::Uuid;

use crate::executions::ledger::record::refusal;
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// How often it is looked for the verdict while this version is on trial.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of a verdict.
const MAX_BYTES: u64 = 64 * 1024;

/// What a supervisor has said that it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// There is none.
    None,
    /// It only restarts.
    Restarts,
    /// It also installs other versions.
    Updates {
        /// This version is on trial.
        is_on_trial: bool,
    },
}

impl Supervision {
    /// As the supervisor says it to the process that it starts.
    pub fn from_environment() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| value == "1");
        match (is_set("MUSTER_SUPERVISED"), is_set("MUSTER_CAN_UPDATE")) {
            (false, _) => Self::None,
            (true, false) => Self::Restarts,
            (true, true) => Self::Updates { is_on_trial: is_set("MUSTER_ON_TRIAL") },
        }
    }
}

/// Wishes and verdicts of one state directory.
#[derive(Debug)]
pub struct UpdateRequests {
    pub(super) state: StateDir,
    supervision: Supervision,
    /// Without a verdict.
    request: Option<UpdateRequest>,
    /// Of the latest wish that has one.
    last_result: Option<UpdateResult>,
    /// When to look for the verdict.
    next_check_at: Option<Instant>,
    /// What the server wants is looked at once in the life of a process.
    may_check_desired: bool,
}

impl UpdateRequests {
    /// Reads what was left by the agent before this one. `may_check_desired`: the version that the server
    /// wants may be asked for without a command.
    pub fn open(state: &StateDir, supervision: Supervision, may_check_desired: bool) -> Self {
        let mut update_requests = Self {
            state: state.clone(),
            supervision,
            request: read(&state.update_request()),
            last_result: None,
            next_check_at: None,
            may_check_desired,
        };
        update_requests.last_result = read(&state.update_result());
        update_requests
    }

    /// The answer to the command that wished, if there is a verdict by now. It is to be made durable
    /// before [`UpdateRequests::close`] forgets the wish. Of a wish without a command nothing is to be previous.
    pub fn take_result(&mut self) -> Option<Option<Response>> {
        let request = self.request.as_ref()?;
        self.next_check_at = Some(Instant::now() + POLL_INTERVAL);
        if let Some(result) = read::<UpdateResult>(&self.state.update_result()) {
            self.last_result = Some(result);
        }
        let result = self.last_result.as_ref().filter(|result| result.is_of(request));
        if result.is_none() && self.supervision == (Supervision::Updates { is_on_trial: true }) {
            return None;
        }
        Some(request.command_id.map(|command_id| match result {
            Some(result) => response(command_id, result),
            None => {
                let text = "nobody has said what came of the update: the agent was started without its supervisor";
                refusal(command_id, Outcome::Failed, "no_result", text.to_owned())
            }
        }))
    }

    /// The wish has its answer.
    pub fn remove_request(&mut self) {
        self.request = None;
        let path = self.state.update_request();
        let removed = fs::remove_file(&path).map_err(StorageError::io("remove", &path));
        if let Err(error) = removed.and_then(|()| storage::sync_directory(self.state.path())) {
            // It is looked at again at the next start, and answered as it was.
            tracing::warn!(error = &error as &dyn std::error::Error, "the request was not removed");
        }
    }

    /// When to look for the verdict again; `None` if none is waited for.
    pub fn next_check_at(&self) -> Option<Instant> {
        self.next_check_at.filter(|_| self.request.is_some())
    }

    /// True if this command's verdict is not there yet.
    pub fn is_open(&self, command_id: Uuid) -> bool {
        self.request.as_ref().is_some_and(|request| request.command_id == Some(command_id))
    }

    /// What the server is previous of the command whose verdict is not there yet.
    pub fn inventory(&self) -> Option<InventoryItem> {
        let command_id = self.request.as_ref()?.command_id?;
        Some(InventoryItem { command_id, state: InventoryState::Running, offset_bytes: 0 })
    }

    /// The verdict that was given last.
    pub fn last_result(&self) -> Option<&UpdateResult> {
        self.last_result.as_ref()
    }

    /// Why no other version can be wished for now: a stable name and a sentence.
    ///
    /// # Errors
    /// Both.
    pub fn check_available(&self) -> Result<(), (&'static str, &'static str)> {
        match self.supervision {
            Supervision::None => Err((
                "not_supervised",
                "no supervisor runs this agent, so that nobody could put another version in its place; install it with deploy.sh",
            )),
            Supervision::Restarts => Err((
                "not_installed",
                "this agent was not installed by deploy.sh, so that its version can't be changed; install it with deploy.sh",
            )),
            Supervision::Updates { .. } if self.request.is_some() => Err((
                "update_under_way",
                "another update of this host is under way; send this one when that is over",
            )),
            Supervision::Updates { .. } => Ok(()),
        }
    }

    /// The start-up check, once in the life of a process: the version that the agent should ask for
    /// by itself. `wanted` is what the server wants at the first session, if anything. What was tried
    /// in vain is not tried again: no host begins anew over and over.
    pub fn desired_update(&mut self, desired: Option<&str>) -> Option<Version> {
        if !std::mem::take(&mut self.may_check_desired) {
            return None;
        }
        let desired = desired.filter(|desired| *desired != version::own())?;
        let previous = self.last_result.as_ref().filter(|result| result.to_version == desired);
        // In place already, and yet this process is another: asking again would change nothing.
        let was_tried_in_vain =
            previous.is_some_and(|result| result.outcome != UpdateOutcome::Installed);
        desired.parse().ok().filter(|_| !was_tried_in_vain && self.check_available().is_ok())
    }

    /// Writes down a wish, durably. The process is then to end with 43 or 44.
    ///
    /// # Errors
    /// Whatever the disk says; nothing is wished then.
    pub fn submit(
        &mut self,
        command_id: Option<Uuid>,
        version: Version,
    ) -> Result<(), StorageError> {
        let request = UpdateRequest { command_id, version };
        let path = self.state.update_request();
        // An older verdict on the same version would be taken for the answer.
        match fs::remove_file(self.state.update_result()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::io("remove", &self.state.update_result())(error));
            }
            _ => {}
        }
        storage::replace_synced(&path, &serde_json::to_vec(&request).unwrap_or_default())?;
        self.request = Some(request);
        // Not by this process: the supervisor has not even read it.
        self.next_check_at = None;
        Ok(())
    }
}

/// The code that the process ends with after a wish.
pub fn exit_code(version: &Version) -> ExitCode {
    match version.to_string() == version::own() {
        true => ExitCode::Redeploy,
        false => ExitCode::Update,
    }
}

fn response(command_id: Uuid, result: &UpdateResult) -> Response {
    let is_success = result.outcome.is_success();
    let message: String = result.message.chars().take(1024).collect();
    Response {
        command_id,
        success: is_success,
        data: json!({
            "verdict": result.outcome,
            "from_version": result.from_version,
            "to_version": result.to_version,
            "message": message,
        }),
        error: (!is_success).then(|| message.clone()),
        error_code: result.code.clone().filter(|_| !is_success),
        outcome: Some(if is_success { Outcome::Succeeded } else { Outcome::Failed }),
    }
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
    let bytes = is_small.then(|| fs::read(path).ok()).flatten()?;
    serde_json::from_slice(&bytes).ok()
}
