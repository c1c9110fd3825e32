//! An update request in the state directory: written, accepted, and waited for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use muster_protocol::release::{UpdateRequest, UpdateResult, Version};
use tokio::time::{Instant, sleep};

use super::{ACCEPT_TIMEOUT, NO_SUPERVISOR_TIMEOUT, RESULT_TIMEOUT, RequestUpdateError};
use crate::executions::Notifier;
use crate::policy::file_fingerprint::FileFingerprint;
use crate::releases::owner_request::{OwnerUpdateRequest, UpdateRefusal};
use crate::releases::update_requests::read;
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};
use crate::subcommands::InspectError;
use crate::subcommands::status::HostReport;

const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between two notifications.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(1);

/// An update request of the host's owner.
pub(super) struct PendingRequest<'a> {
    state: &'a StateDir,
    version: Version,
    /// Fingerprint of the previous result.
    before: Option<FileFingerprint>,
}

impl<'a> PendingRequest<'a> {
    /// Writes the request for the agent.
    ///
    /// # Errors
    /// The system's error.
    pub fn write(state: &'a StateDir, version: Version) -> Result<Self, StorageError> {
        remove(&state.owner_update_refusal())?;
        let before = FileFingerprint::of(&state.update_result());
        let request = OwnerUpdateRequest { version: version.clone() };
        let encoded = serde_json::to_vec(&request).unwrap_or_default();
        storage::replace_synced(&state.owner_update_request(), &encoded)?;
        Ok(Self { state, version, before })
    }

    /// Notifies the agent until it has accepted the request.
    ///
    /// # Errors
    /// [`RequestUpdateError::NotAccepted`]; the request is withdrawn then.
    pub async fn wait_accepted(&self) -> Result<(), RequestUpdateError> {
        let until = Instant::now() + ACCEPT_TIMEOUT;
        let mut notify_at = Instant::now();
        let path = self.state.owner_update_request();
        while storage::exists(&path)? {
            let now = Instant::now();
            // Only one of the two can remove the file, so giving up and accepting exclude each
            // other.
            if now >= until && fs::remove_file(&path).is_ok() {
                return Err(RequestUpdateError::NotAccepted);
            }
            if now >= notify_at {
                // Created for every notification: an agent that starts meanwhile has another
                // socket.
                Notifier::new(self.state.path()).notify_for_owner();
                notify_at = now + NOTIFY_INTERVAL;
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`RequestUpdateError`] if there is none.
    pub async fn wait_result(&self) -> Result<UpdateResult, RequestUpdateError> {
        let until = Instant::now() + RESULT_TIMEOUT;
        // The last times at which there was a request, and a supervisor.
        let (mut requested_at, mut supervised_at) = (Instant::now(), Instant::now());
        loop {
            if let Some(UpdateRefusal { code, message }) = read(&self.state.owner_update_refusal())
            {
                remove(&self.state.owner_update_refusal())?;
                return Err(RequestUpdateError::Refused { code, message });
            }
            if let Some(result) = self.read_result() {
                return Ok(result);
            }
            let now = Instant::now();
            if self.is_requested() {
                requested_at = now;
            }
            if is_supervised(self.state.path())? {
                supervised_at = now;
            }
            if now - supervised_at >= NO_SUPERVISOR_TIMEOUT {
                return Err(RequestUpdateError::Stopped);
            }
            if now - requested_at >= NO_SUPERVISOR_TIMEOUT {
                return Err(RequestUpdateError::Lost);
            }
            if now >= until {
                return Err(RequestUpdateError::NoResult);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn read_result(&self) -> Option<UpdateResult> {
        let path = self.state.update_result();
        // An older result for the same version may exist.
        let is_new = FileFingerprint::of(&path) != self.before;
        let result = is_new.then(|| read::<UpdateResult>(&path)).flatten()?;
        let request =
            UpdateRequest { command_id: None, version: self.version.clone(), reinstall: false };
        result.is_of(&request).then_some(result)
    }

    fn is_requested(&self) -> bool {
        let request: Option<UpdateRequest> = read(&self.state.update_request());
        request
            .is_some_and(|request| request.command_id.is_none() && request.version == self.version)
    }
}

/// True if a supervisor is running that will write a result.
fn is_supervised(state_dir: &Path) -> Result<bool, InspectError> {
    let supervisor = HostReport::read(state_dir)?.supervisor;
    let states = ["gone", "stopped", "parked"];
    Ok(supervisor.is_some_and(|supervisor| !states.contains(&supervisor.state.as_str())))
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
