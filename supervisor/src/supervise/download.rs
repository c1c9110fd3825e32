//! Downloads a release with the agent's program: first the signed documents, then the programs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use muster_protocol::release::{NO_SPACE_EXIT, UpdateOutcome, UpdateRequest};
use serde::Deserialize;

use super::state::{Interruptible, SuperviseError};
use super::supervisor::Supervisor;
use crate::policy::ProcessExit;
use crate::reasons;
use crate::update::UpdateError;
use muster_protocol::error_chain;

/// Time for the whole download. Interrupted downloads resume.
const DOWNLOAD_TIME: Duration = Duration::from_secs(600);
/// The error code of a download that the next attempt resumes.
const RESUMABLE: &str = "download_failed";

#[derive(Debug, Default, Deserialize)]
struct FetchError {
    code: Option<String>,
    message: Option<String>,
}

impl Supervisor {
    /// Downloads a release. Returns false if it ended without one; the request then has its result.
    ///
    /// The programs are downloaded only after the documents are verified and the programs' sizes
    /// are known to fit on the disk.
    pub(super) fn download(
        &mut self,
        request: &UpdateRequest,
    ) -> Result<Interruptible<bool>, SuperviseError> {
        let Some(updates) = &self.update_state.updates else {
            return Ok(Interruptible::Done(false));
        };
        let staging = match updates.open_staging(&request.version) {
            Ok(staging) => staging,
            Err(error) => {
                self.reject(request, &error.into());
                return Ok(Interruptible::Done(false));
            }
        };
        let until = Instant::now() + DOWNLOAD_TIME;
        match self.download_part(request, &staging, "documents", until)? {
            Interruptible::Done(true) => {}
            other => return Ok(other),
        }
        let Some(updates) = &self.update_state.updates else {
            return Ok(Interruptible::Done(false));
        };
        match updates.verify_documents(request) {
            Ok(verified) if !request.reinstall && updates.is_installed(&verified) => {
                updates.drop_staging();
                let message =
                    format!("version {} is already installed and intact", request.version);
                self.finish_request(request, UpdateOutcome::Unchanged, None, message);
                return Ok(Interruptible::Done(false));
            }
            Ok(verified) => {
                if let Err(error) = updates.check_free_space(&verified) {
                    self.reject(request, &error);
                    return Ok(Interruptible::Done(false));
                }
            }
            Err(error) => {
                self.reject(request, &error);
                return Ok(Interruptible::Done(false));
            }
        }
        self.download_part(request, &staging, "programs", until)
    }

    fn download_part(
        &mut self,
        request: &UpdateRequest,
        staging: &Path,
        part: &str,
        until: Instant,
    ) -> Result<Interruptible<bool>, SuperviseError> {
        let mut command = Command::new(self.layout.agent_binary());
        command.arg("fetch-release").arg("--version").arg(request.version.to_string());
        command.arg("--into").arg(staging).arg("--part").arg(part).args(&self.settings.agent_args);
        self.log.info(format_args!("downloading the {part} of version {}", request.version));
        self.status.updating(format!("downloading version {}", request.version));
        let left = until.saturating_duration_since(Instant::now());
        let end = match self.run_helper(&mut command, left)? {
            Interruptible::Done(end) => end,
            Interruptible::StopRequested(request) => {
                return Ok(Interruptible::StopRequested(request));
            }
        };
        if end == ProcessExit::Exited(0) {
            return Ok(Interruptible::Done(true));
        }
        if let Some(updates) = &self.update_state.updates {
            let reported: FetchError = updates.read_download_error(staging).unwrap_or_default();
            let is_full = end == ProcessExit::Exited(NO_SPACE_EXIT.into());
            let default_code = if is_full { "no_space" } else { RESUMABLE };
            let code = reported.code.as_deref().unwrap_or(default_code);
            let message = reported.message.unwrap_or_else(|| reasons::download_failed(end));
            if code != RESUMABLE {
                updates.drop_staging();
            }
            self.finish_request(request, UpdateOutcome::Failed, Some(code), message);
        }
        Ok(Interruptible::Done(false))
    }

    /// Rejects the release and removes its download.
    pub(super) fn reject(&mut self, request: &UpdateRequest, error: &UpdateError) {
        if let Some(updates) = &self.update_state.updates {
            updates.drop_staging();
        }
        self.finish_request(
            request,
            error.outcome(),
            Some(error.code()),
            error_chain(error).to_string(),
        );
    }
}
