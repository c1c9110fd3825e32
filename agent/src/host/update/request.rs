//! A request that lies in the state directory: taken up, and waited for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use muster_protocol::release::{UpdateRequest, UpdateResult, Version};
use tokio::time::{Instant, sleep};

use super::{GONE_TIME, TAKE_UP_TIME, UpdateError, VERDICT_TIME};
use crate::exec::Bell;
use crate::host::HostError;
use crate::host::status::Report;
use crate::layout::StateDir;
use crate::release::desk::read;
use crate::release::request::{OwnerUpdateRequest, UpdateRefusal};
use crate::stamp::Stamp;
use crate::storage::{self, StorageError};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two rings.
const RING_EVERY: Duration = Duration::from_secs(1);

/// A request that lies in the state directory.
pub(super) struct Request<'a> {
    state: &'a StateDir,
    version: Version,
    /// Of the verdict that was there before.
    before: Option<Stamp>,
}

impl<'a> Request<'a> {
    /// Leaves it there for the agent.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn leave(state: &'a StateDir, version: Version) -> Result<Self, StorageError> {
        remove(&state.owner_update_refusal())?;
        let before = Stamp::of(&state.update_result());
        let request = OwnerUpdateRequest { version: version.clone() };
        let encoded = serde_json::to_vec(&request).unwrap_or_default();
        storage::replace_synced(&state.owner_update_request(), &encoded)?;
        Ok(Self { state, version, before })
    }

    /// Rings until the agent has taken the request up.
    ///
    /// # Errors
    /// [`UpdateError::NotTakenUp`]; it is withdrawn then.
    pub async fn be_taken_up(&self) -> Result<(), UpdateError> {
        let until = Instant::now() + TAKE_UP_TIME;
        let mut ring_at = Instant::now();
        let path = self.state.owner_update_request();
        while storage::exists(&path)? {
            let now = Instant::now();
            // Removed by one of the two, so that giving up and taking up exclude each other.
            if now >= until && fs::remove_file(&path).is_ok() {
                return Err(UpdateError::NotTakenUp);
            }
            if now >= ring_at {
                // Anew each time: an agent that begins meanwhile has another socket.
                Bell::new(self.state.path()).ring_for_owner();
                ring_at = now + RING_EVERY;
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits for what comes of it.
    ///
    /// # Errors
    /// [`UpdateError`] if there is none.
    pub async fn verdict(&self) -> Result<UpdateResult, UpdateError> {
        let until = Instant::now() + VERDICT_TIME;
        // Since when there is neither a wish nor a verdict, and since when no supervisor.
        let (mut untold, mut gone) = (Instant::now(), Instant::now());
        loop {
            if let Some(UpdateRefusal { code, message }) = read(&self.state.owner_update_refusal())
            {
                remove(&self.state.owner_update_refusal())?;
                return Err(UpdateError::Refused { code, message });
            }
            if let Some(verdict) = self.own_verdict() {
                return Ok(verdict);
            }
            let now = Instant::now();
            if self.is_wished() {
                untold = now;
            }
            if is_supervised(self.state.path())? {
                gone = now;
            }
            if now - gone >= GONE_TIME {
                return Err(UpdateError::Stopped);
            }
            if now - untold >= GONE_TIME {
                return Err(UpdateError::Lost);
            }
            if now >= until {
                return Err(UpdateError::NoVerdict);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn own_verdict(&self) -> Option<UpdateResult> {
        let path = self.state.update_result();
        // One on the same version may lie there from before.
        let is_new = Stamp::of(&path) != self.before;
        let verdict = is_new.then(|| read::<UpdateResult>(&path)).flatten()?;
        let wish = UpdateRequest { command_id: None, version: self.version.clone() };
        verdict.is_of(&wish).then_some(verdict)
    }

    fn is_wished(&self) -> bool {
        let wish: Option<UpdateRequest> = read(&self.state.update_request());
        wish.is_some_and(|wish| wish.command_id.is_none() && wish.version == self.version)
    }
}

/// True if there is somebody to give a verdict: a supervisor that goes on.
fn is_supervised(state_dir: &Path) -> Result<bool, HostError> {
    let supervisor = Report::of(state_dir)?.supervisor;
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
