//! Streams the output of an execution while it runs, and its result at the end.
//!
//! Each notification triggers a read by offset. Output that a slow viewer has not read stays in the
//! database.

mod source;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use self::source::LiveOutputReader;
pub use self::source::Removed;
use super::read::{output_error, require_output};
use crate::domain::access::principal::Scope;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::output_event::Piece;
use crate::domain::commands::work::output_scopes;
use crate::domain::ids::CommandId;
use crate::hub::{CommandWatch, Hub};
use crate::services::access::caller::Caller;
use crate::services::access::stream_permits::{StreamPermit, StreamPermits};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{CommandWithReport, OutputStream};
use crate::store::{Store, StoreError};

/// Use cases of live output.
#[derive(Clone, Debug)]
pub struct LiveOutput {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) viewers: StreamPermits,
}

/// What a viewer requests.
#[derive(Debug, Clone, Copy)]
pub struct LiveRequest {
    pub stream: OutputStream,
    /// Payload of both streams before the first requested byte.
    pub from_bytes: u64,
    /// True: continue until the execution has ended. False: stop at the end of the current output.
    pub follow: bool,
}

/// An event for a viewer.
#[derive(Debug)]
pub enum LiveEvent {
    Output(Piece),
    /// Older output that is not kept any more, before the next piece.
    Removed(Removed),
    /// The last event, after all output.
    Ended(Box<Ended>),
}

/// The result of an execution.
#[derive(Debug)]
pub struct Ended {
    pub command_id: CommandId,
    pub state: CommandState,
    /// The report of its agent, if it arrived in time.
    pub report: Option<Value>,
    pub error: Option<String>,
    pub error_code: Option<String>,
    /// Stored payload of both streams.
    pub output_bytes: u64,
    /// Stored payload of stdout.
    pub stdout_bytes: u64,
    /// True if output of the script is missing, or may be missing.
    pub is_output_incomplete: bool,
}

/// The stream of one execution for one viewer.
#[derive(Debug)]
pub struct LiveStream {
    viewer: StreamPermit,
    /// What a viewer needs.
    scopes: &'static [Scope],
    watch: CommandWatch,
    source: LiveOutputReader,
    ready: VecDeque<Piece>,
    ended: Option<Box<Ended>>,
    follow: bool,
    is_over: bool,
}

impl LiveOutput {
    /// Opens a stream.
    ///
    /// # Errors
    /// `not_found` for a command that is no execution; [`ServiceError::TooMany`] at the limits;
    /// [`ServiceError::Gone`] if the output is lost.
    pub async fn open(
        &self,
        caller: &Caller,
        id: CommandId,
        request: LiveRequest,
    ) -> Result<LiveStream> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let found = tenant.command(id).await?;
        let found = found.filter(|found| found.command.command == "execute");
        let command = found.ok_or(ServiceError::NotFound("execution"))?.command;
        require_output(caller, &command)?;
        let viewer = self.viewers.admit(caller)?;
        let mut source = LiveOutputReader::new(tenant, id, request.stream, request.from_bytes);
        let mut ready = VecDeque::new();
        // Unreadable output is refused now. Later the stream could only end early.
        source.read(&mut ready).await.map_err(output_error)?;
        Ok(LiveStream {
            viewer,
            scopes: output_scopes(command.script.as_deref()),
            watch: self.hub.watch_command(id),
            source,
            ready,
            ended: None,
            follow: request.follow,
            is_over: false,
        })
    }
}

impl LiveStream {
    /// The next event; `None` at the end, or when the viewer loses its right to see the output.
    ///
    /// # Errors
    /// [`StoreError`]; the viewer reconnects with its last offset. If the output after it is lost,
    /// that request gets [`ServiceError::Gone`].
    pub async fn next(&mut self) -> std::result::Result<Option<LiveEvent>, StoreError> {
        loop {
            // Checked before each event, so that a viewer without the right gets nothing that was
            // already read.
            if !self.viewer.may_see(self.scopes).await? {
                self.ready.clear();
                return Ok(None);
            }
            if let Some(removed) = self.source.removed_before(self.ready.front()) {
                return Ok(Some(LiveEvent::Removed(removed)));
            }
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(LiveEvent::Output(piece)));
            }
            if self.is_over {
                return Ok(self.ended.take().map(LiveEvent::Ended));
            }
            let changed = self.watch.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.source.read(&mut self.ready).await? {
                continue;
            }
            let found = self.source.command().await?;
            let has_ended = found.as_ref().is_none_or(|found| found.command.state.is_terminal());
            // One more read after the state: all output of an ended command is committed.
            if (has_ended || !self.follow) && !self.source.read(&mut self.ready).await? {
                self.source.finish(&mut self.ready);
                self.is_over = true;
                if has_ended && let Some(found) = found {
                    self.ended = Some(Box::new(self.source.ended(found).await?));
                }
            }
            if self.ready.is_empty() && !self.is_over {
                tokio::select! {
                    () = changed => {}
                    () = self.viewer.recheck() => {}
                }
            }
        }
    }
}

impl Ended {
    fn new(found: CommandWithReport, output_bytes: u64, stdout_bytes: u64) -> Self {
        let CommandWithReport { command, report, .. } = found;
        let report = report.filter(|report| !report.is_late);
        let (data, error, error_code) = match report {
            Some(report) => {
                (serde_json::from_str(&report.data).ok(), report.error, report.error_code)
            }
            None => {
                let reason = command.end_reason;
                let error = reason.map(|reason| reason.sentence().to_owned());
                (None::<Value>, error, reason.map(|reason| reason.as_str().to_owned()))
            }
        };
        let said = data.as_ref().and_then(|data| data.get("output_complete")?.as_bool());
        let is_complete = said.unwrap_or(command.state != CommandState::Lost);
        Self {
            command_id: command.id,
            state: command.state,
            report: data,
            error,
            error_code,
            output_bytes,
            stdout_bytes,
            is_output_incomplete: !is_complete,
        }
    }
}
