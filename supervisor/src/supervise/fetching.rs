//! A release that is downloaded by the agent's program: first what it says of itself, then what it
//! consists of.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use muster_protocol::release::{NO_SPACE_EXIT, UpdateOutcome, UpdateRequest};
use serde::Deserialize;

use super::{Outcome, SuperviseError, Supervisor};
use crate::log::chain;
use crate::policy::End;
use crate::sentence;
use crate::update::NotTaken;

/// For a download as a whole; what it has got is gone on with by the next one.
const DOWNLOAD_TIME: Duration = Duration::from_secs(600);
/// What a download ends with that the next one goes on with.
const RESUMABLE: &str = "download_failed";

#[derive(Debug, Default, Deserialize)]
struct FetchError {
    code: Option<String>,
    message: Option<String>,
}

impl Supervisor {
    /// True if the release was downloaded; if not, the wish is answered. Its programs are fetched
    /// only once its documents are known to be good, and their sizes to fit.
    pub(super) fn fetch(&mut self, wish: &UpdateRequest) -> Result<Outcome<bool>, SuperviseError> {
        let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(false)) };
        let staging = match updates.open_staging(&wish.version) {
            Ok(staging) => staging,
            Err(error) => {
                self.refuse(wish, &error.into());
                return Ok(Outcome::Came(false));
            }
        };
        let until = Instant::now() + DOWNLOAD_TIME;
        match self.fetch_part(wish, &staging, "documents", until)? {
            Outcome::Came(true) => {}
            other => return Ok(other),
        }
        let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(false)) };
        match updates.examine(wish) {
            Ok(verified) if updates.is_in_place(&verified) => {
                updates.drop_staging();
                let message = format!("{} was whole", wish.version);
                self.answer(wish, UpdateOutcome::Unchanged, None, message);
                return Ok(Outcome::Came(false));
            }
            Ok(verified) => {
                if let Err(error) = updates.check_room(&verified) {
                    self.refuse(wish, &error);
                    return Ok(Outcome::Came(false));
                }
            }
            Err(error) => {
                self.refuse(wish, &error);
                return Ok(Outcome::Came(false));
            }
        }
        self.fetch_part(wish, &staging, "programs", until)
    }

    fn fetch_part(
        &mut self,
        wish: &UpdateRequest,
        staging: &Path,
        part: &str,
        until: Instant,
    ) -> Result<Outcome<bool>, SuperviseError> {
        let mut command = Command::new(self.layout.agent_binary());
        command.arg("fetch-release").arg("--version").arg(wish.version.to_string());
        command.arg("--into").arg(staging).arg("--part").arg(part).args(&self.settings.agent_args);
        self.log.info(format_args!("fetching the {part} of version {}", wish.version));
        self.board.updating(format!("fetching version {}", wish.version));
        let left = until.saturating_duration_since(Instant::now());
        let end = match self.step(&mut command, left)? {
            Outcome::Came(end) => end,
            Outcome::StopAsked(request) => return Ok(Outcome::StopAsked(request)),
        };
        if end == End::Exited(0) {
            return Ok(Outcome::Came(true));
        }
        if let Some(updates) = &self.updating.updates {
            let told: FetchError = updates.told_by_download(staging).unwrap_or_default();
            let is_full = end == End::Exited(NO_SPACE_EXIT.into());
            let untold = if is_full { "no_space" } else { RESUMABLE };
            let code = told.code.as_deref().unwrap_or(untold);
            let message = told.message.unwrap_or_else(|| sentence::download_ended(end));
            if code != RESUMABLE {
                updates.drop_staging();
            }
            self.answer(wish, UpdateOutcome::Failed, Some(code), message);
        }
        Ok(Outcome::Came(false))
    }

    /// The release is not taken, and nobody goes on with its download.
    pub(super) fn refuse(&mut self, wish: &UpdateRequest, error: &NotTaken) {
        if let Some(updates) = &self.updating.updates {
            updates.drop_staging();
        }
        self.answer(wish, error.outcome(), Some(error.code()), chain(error).to_string());
    }
}
