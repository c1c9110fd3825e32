//! Update requests of this host that have no result yet.
//!
//! The request is a file that the supervisor reads after the agent has exited with 43 or 44. The
//! result is a file that the supervisor writes. A request by command stays in the inventory until
//! there is a result, which then becomes the command's result.

use std::env;
use std::fs;
use std::time::Duration;

use muster_protocol::ExitCode;
use muster_protocol::frame::{InventoryItem, InventoryState, Outcome, Response};
use muster_protocol::program::version;
use muster_protocol::release::{UpdateOutcome, UpdateRequest, UpdateResult, Version};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::Path;
use tokio::time::Instant;
use uuid::Uuid;

use crate::executions::ledger::record::refusal;
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// How often the result is checked while this version is on trial.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The abilities that the supervisor announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// There is no supervisor.
    None,
    /// It only restarts the agent.
    Restarts,
    /// It also installs other versions.
    Updates {
        /// This version is on trial.
        is_on_trial: bool,
    },
}

impl Supervision {
    /// Reads the environment that the supervisor sets for the agent.
    pub fn from_environment() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| value == "1");
        match (is_set("MUSTER_SUPERVISED"), is_set("MUSTER_CAN_UPDATE")) {
            (false, _) => Self::None,
            (true, false) => Self::Restarts,
            (true, true) => Self::Updates { is_on_trial: is_set("MUSTER_ON_TRIAL") },
        }
    }
}

/// The update requests and results of one state directory.
#[derive(Debug)]
pub struct UpdateRequests {
    pub(super) state: StateDir,
    supervision: Supervision,
    /// The request that has no result yet.
    request: Option<UpdateRequest>,
    /// The result of the latest request that has one.
    last_result: Option<UpdateResult>,
    /// When to check for the result.
    next_check_at: Option<Instant>,
    /// The desired version is applied at most once in the life of a process.
    may_check_desired: bool,
}

impl UpdateRequests {
    /// Reads what the previous agent process left. With `may_check_desired` the agent may request
    /// the desired version without a command.
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

    /// The response to the command that requested the update, if there is a result by now. The
    /// caller must make it durable before [`UpdateRequests::remove_request`] removes the request.
    /// The inner option is empty for a request without a command.
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
                let text = "the result of the update is unknown: the agent was started without its supervisor";
                refusal(command_id, Outcome::Failed, "no_result", text.to_owned())
            }
        }))
    }

    /// Removes the request, which has its result.
    pub fn remove_request(&mut self) {
        self.request = None;
        let path = self.state.update_request();
        let removed = fs::remove_file(&path).map_err(StorageError::io("remove", &path));
        if let Err(error) = removed.and_then(|()| storage::sync_directory(self.state.path())) {
            // The next start reads the request again and gives the same answer.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to remove the update request"
            );
        }
    }

    /// When to check for the result again; `None` if no result is expected.
    pub fn next_check_at(&self) -> Option<Instant> {
        self.next_check_at.filter(|_| self.request.is_some())
    }

    /// True if this command's result is still open.
    pub fn is_open(&self, command_id: Uuid) -> bool {
        self.request.as_ref().is_some_and(|request| request.command_id == Some(command_id))
    }

    /// The inventory item of the command whose result is still open.
    pub fn inventory(&self) -> Option<InventoryItem> {
        let command_id = self.request.as_ref()?.command_id?;
        Some(InventoryItem { command_id, state: InventoryState::Running, offset_bytes: 0 })
    }

    /// The result of the request that is still there.
    pub fn request_result(&self) -> Option<&UpdateResult> {
        let request = self.request.as_ref()?;
        self.last_result.as_ref().filter(|result| result.is_of(request))
    }

    /// The latest result.
    pub fn last_result(&self) -> Option<&UpdateResult> {
        self.last_result.as_ref()
    }

    /// Checks whether an update can be requested now.
    ///
    /// # Errors
    /// A stable code and a sentence that explain why not.
    pub fn check_available(&self) -> Result<(), (&'static str, &'static str)> {
        match self.supervision {
            Supervision::None => Err((
                "not_supervised",
                "this agent runs without a supervisor, which would install other versions; install the agent with deploy.sh",
            )),
            Supervision::Restarts => Err((
                "not_installed",
                "this agent was not installed by deploy.sh, so its version can't be changed; install it with deploy.sh",
            )),
            Supervision::Updates { .. } if self.request.is_some() => Err((
                "update_under_way",
                "another update of this host is in progress; try again when it has ended",
            )),
            Supervision::Updates { .. } => Ok(()),
        }
    }

    /// The version that the agent should request by itself, checked once in the life of a process.
    /// `desired` is the version in the first `registered` frame. A version that failed before is
    /// not requested again, so that no host restarts forever.
    pub fn desired_update(&mut self, desired: Option<&str>) -> Option<Version> {
        if !std::mem::take(&mut self.may_check_desired) {
            return None;
        }
        let desired = desired.filter(|desired| *desired != version::own())?;
        let previous = self.last_result.as_ref().filter(|result| result.to_version == desired);
        // The version is installed but this process runs another one: a new request would change
        // nothing.
        let was_tried_in_vain =
            previous.is_some_and(|result| result.outcome != UpdateOutcome::Installed);
        desired.parse().ok().filter(|_| !was_tried_in_vain && self.check_available().is_ok())
    }

    /// Writes an update request durably. The process must then exit with 43 or 44. `reinstall`: even
    /// if the version is installed and intact.
    ///
    /// # Errors
    /// The system's error; nothing is requested then.
    pub fn submit(
        &mut self,
        command_id: Option<Uuid>,
        version: Version,
        reinstall: bool,
    ) -> Result<(), StorageError> {
        let request = UpdateRequest { command_id, version, reinstall };
        let path = self.state.update_request();
        // An older result for the same version would be taken for the result of this request.
        match fs::remove_file(self.state.update_result()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::io("remove", &self.state.update_result())(error));
            }
            _ => {}
        }
        storage::replace_synced(&path, &serde_json::to_vec(&request).unwrap_or_default())?;
        self.request = Some(request);
        // This process does not wait for the result: the supervisor reads the request after its
        // exit.
        self.next_check_at = None;
        Ok(())
    }
}

/// The exit code of the process after an update request.
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
            "update_result": result.outcome,
            "from_version": result.from_version,
            "to_version": result.to_version,
            "message": message,
        }),
        error: (!is_success).then(|| message.clone()),
        error_code: result.code.clone().filter(|_| !is_success),
        outcome: Some(if is_success { Outcome::Succeeded } else { Outcome::Failed }),
        attestation: None,
        call: None,
    }
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
    let bytes = is_small.then(|| fs::read(path).ok()).flatten()?;
    serde_json::from_slice(&bytes).ok()
}
