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

use crate::layout::StateDir;
use crate::ledger::record::refusal;
use crate::storage::{self, StorageError};

/// How often it is looked for the verdict while this version is on trial.
const LOOK_EVERY: Duration = Duration::from_millis(500);
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
pub struct Desk {
    pub(super) state: StateDir,
    supervision: Supervision,
    /// Without a verdict.
    open: Option<UpdateRequest>,
    /// Of the latest wish that has one.
    verdict: Option<UpdateResult>,
    /// When to look for the verdict.
    look_at: Option<Instant>,
    /// What the server wants is looked at once in the life of a process.
    may_begin: bool,
}

impl Desk {
    /// Reads what was left by the agent before this one. `may_begin`: the version that the server
    /// wants may be asked for without a command.
    pub fn open(state: &StateDir, supervision: Supervision, may_begin: bool) -> Self {
        let mut desk = Self {
            state: state.clone(),
            supervision,
            open: read(&state.update_request()),
            verdict: None,
            look_at: None,
            may_begin,
        };
        desk.verdict = read(&state.update_result());
        desk
    }

    /// The answer to the command that wished, if there is a verdict by now. It is to be made durable
    /// before [`Desk::close`] forgets the wish. Of a wish without a command nothing is to be told.
    pub fn answer(&mut self) -> Option<Option<Response>> {
        let wish = self.open.as_ref()?;
        self.look_at = Some(Instant::now() + LOOK_EVERY);
        if let Some(verdict) = read::<UpdateResult>(&self.state.update_result()) {
            self.verdict = Some(verdict);
        }
        let verdict = self.verdict.as_ref().filter(|verdict| verdict.is_of(wish));
        if verdict.is_none() && self.supervision == (Supervision::Updates { is_on_trial: true }) {
            return None;
        }
        Some(wish.command_id.map(|command_id| match verdict {
            Some(verdict) => response(command_id, verdict),
            None => {
                let text = "nobody has said what came of the update: the agent was started without its supervisor";
                refusal(command_id, Outcome::Failed, "no_verdict", text.to_owned())
            }
        }))
    }

    /// The wish has its answer.
    pub fn close(&mut self) {
        self.open = None;
        let path = self.state.update_request();
        let removed = fs::remove_file(&path).map_err(StorageError::io("remove", &path));
        if let Err(error) = removed.and_then(|()| storage::sync_directory(self.state.path())) {
            // It is looked at again at the next start, and answered as it was.
            tracing::warn!(error = &error as &dyn std::error::Error, "the wish was not removed");
        }
    }

    /// When to look for the verdict again; `None` if none is waited for.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at.filter(|_| self.open.is_some())
    }

    /// True if this command's verdict is not there yet.
    pub fn has_open(&self, command_id: Uuid) -> bool {
        self.open.as_ref().is_some_and(|wish| wish.command_id == Some(command_id))
    }

    /// What the server is told of the command whose verdict is not there yet.
    pub fn inventory(&self) -> Option<InventoryItem> {
        let command_id = self.open.as_ref()?.command_id?;
        Some(InventoryItem { command_id, state: InventoryState::Running, offset_bytes: 0 })
    }

    /// The verdict that was given last.
    pub fn verdict(&self) -> Option<&UpdateResult> {
        self.verdict.as_ref()
    }

    /// Why no other version can be wished for now: a stable name and a sentence.
    ///
    /// # Errors
    /// Both.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match self.supervision {
            Supervision::None => Err((
                "not_supervised",
                "no supervisor runs this agent, so that nobody could put another version in its place; install it with deploy.sh",
            )),
            Supervision::Restarts => Err((
                "not_installed",
                "this agent was not installed by deploy.sh, so that its version can't be changed; install it with deploy.sh",
            )),
            Supervision::Updates { .. } if self.open.is_some() => Err((
                "update_under_way",
                "another update of this host is under way; send this one when that is over",
            )),
            Supervision::Updates { .. } => Ok(()),
        }
    }

    /// The start-up check, once in the life of a process: the version that the agent should ask for
    /// by itself. `wanted` is what the server wants at the first session, if anything. What was tried
    /// in vain is not tried again: no host begins anew over and over.
    pub fn wants(&mut self, wanted: Option<&str>) -> Option<Version> {
        if !std::mem::take(&mut self.may_begin) {
            return None;
        }
        let wanted = wanted.filter(|wanted| *wanted != version::own())?;
        let told = self.verdict.as_ref().filter(|verdict| verdict.to_version == wanted);
        // In place already, and yet this process is another: asking again would change nothing.
        let is_vain = told.is_some_and(|verdict| verdict.outcome != UpdateOutcome::Installed);
        wanted.parse().ok().filter(|_| !is_vain && self.check().is_ok())
    }

    /// Writes down a wish, durably. The process is then to end with 43 or 44.
    ///
    /// # Errors
    /// Whatever the disk says; nothing is wished then.
    pub fn wish(&mut self, command_id: Option<Uuid>, version: Version) -> Result<(), StorageError> {
        let wish = UpdateRequest { command_id, version };
        let path = self.state.update_request();
        // An older verdict on the same version would be taken for the answer.
        match fs::remove_file(self.state.update_result()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::io("remove", &self.state.update_result())(error));
            }
            _ => {}
        }
        storage::replace_synced(&path, &serde_json::to_vec(&wish).unwrap_or_default())?;
        self.open = Some(wish);
        // Not by this process: the supervisor has not even read it.
        self.look_at = None;
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

fn response(command_id: Uuid, verdict: &UpdateResult) -> Response {
    let is_success = verdict.outcome.is_success();
    let message: String = verdict.message.chars().take(1024).collect();
    Response {
        command_id,
        success: is_success,
        data: json!({
            "update_result": verdict.outcome,
            "from_version": verdict.from_version,
            "to_version": verdict.to_version,
            "message": message,
        }),
        error: (!is_success).then(|| message.clone()),
        error_code: verdict.code.clone().filter(|_| !is_success),
        outcome: Some(if is_success { Outcome::Succeeded } else { Outcome::Failed }),
    }
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
    let bytes = is_small.then(|| fs::read(path).ok()).flatten()?;
    serde_json::from_slice(&bytes).ok()
}
