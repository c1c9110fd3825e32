//! What an agent is told after a commit. An acknowledgement never comes before it.

use std::time::Duration;

use futures_util::StreamExt as _;
use muster_protocol::CloseCode;
use muster_protocol::frame::{Ack, ErrorCode, Receipt, ServerFrame};
use muster_protocol::limits::CANCEL_GRACE_MS;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::live::Live;
use super::{AgentTransport, SessionEnd};
use crate::domain::ids::CommandId;
use crate::store::StoreError;
use crate::store::blobs::BlobError;
use crate::store::writer::{Disposition, Reconciled, Settled};

/// How long output waits on its host when there is no room for it here.
const OUTPUT_RETRY: Duration = Duration::from_secs(30);

/// What was committed.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing that the agent needs to know.
    Nothing,
    /// A step of a command.
    Progress(CommandId),
    /// Output up to an offset.
    Output { command_id: CommandId, offset_bytes: u64 },
    /// There is no room for a command's output.
    NoRoom(CommandId),
    /// The output before this chunk or report was not stored, so neither was this.
    OutputMissing(CommandId),
    /// A result.
    Settled { command_id: CommandId, settled: Settled, told: Option<oneshot::Sender<Receipt>> },
    /// The inventory.
    Reconciled(Reconciled),
}

impl Live {
    pub(super) async fn answer<T: AgentTransport>(
        &mut self,
        answer: Result<Answer, StoreError>,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let answer = answer.map_err(|error| match error {
            StoreError::StaleEpoch => SessionEnd::Closed(CloseCode::SessionReplaced),
            error => {
                // What was not committed is not acknowledged: the agent sends it again.
                tracing::warn!(agent_id = %self.handle.agent_id, %error, "failed to commit for a session");
                SessionEnd::Closed(CloseCode::TryAgainLater)
            }
        })?;
        match answer {
            Answer::Nothing => Ok(()),
            Answer::Progress(command_id) => {
                self.service.hub.notify_progress(command_id);
                Ok(())
            }
            Answer::Output { command_id, offset_bytes } => {
                self.service.hub.output_appended(command_id);
                self.acknowledge(command_id, Some(offset_bytes), None, transport).await
            }
            Answer::NoRoom(command_id) => {
                self.refuse_output(command_id);
                Ok(())
            }
            Answer::OutputMissing(command_id) => self.output_missing(command_id),
            Answer::Settled { command_id, settled, told } => {
                self.settled(command_id, settled);
                match told {
                    // Whoever asked may have hung up.
                    Some(told) => {
                        let _ = told.send(settled.receipt);
                        Ok(())
                    }
                    None => self.tell_receipt(command_id, settled.receipt, transport).await,
                }
            }
            Answer::Reconciled(reconciled) => self.reconciled(reconciled, transport).await,
        }
    }

    /// The rest of the session goes on; its end makes the agent send the output again.
    fn refuse_output(&mut self, command_id: CommandId) {
        self.custody.refuse(command_id);
        if self.retry_output_at.is_none() {
            let error = BlobError::NoSpace;
            tracing::warn!(agent_id = %self.handle.agent_id, %command_id, %error, "output waits on its host");
            self.retry_output_at = Some(Instant::now() + OUTPUT_RETRY);
        }
    }

    /// Answers come in the order of the frames: by now it is known what became of the output
    /// before. What waits for room, it waits with; it was on its way already when that was found.
    fn output_missing(&self, command_id: CommandId) -> Result<(), SessionEnd> {
        if self.custody.is_refused(command_id) {
            return Ok(());
        }
        let (agent_id, error) = (self.handle.agent_id, StoreError::OutputMissing);
        tracing::warn!(%agent_id, %command_id, %error, "failed to commit for a session");
        Err(SessionEnd::Closed(CloseCode::TryAgainLater))
    }

    /// Waits for what is still to be committed, and wakes whom it concerns: the agent is gone, and
    /// its last words may have ended a command.
    pub(super) async fn follow_pending(&mut self) {
        while let Some(answer) = self.pending.next().await {
            match answer {
                Ok(Answer::Progress(command_id)) => self.service.hub.notify_progress(command_id),
                Ok(Answer::Output { command_id, .. }) => {
                    self.service.hub.output_appended(command_id)
                }
                Ok(Answer::Settled { command_id, settled, told }) => {
                    self.settled(command_id, settled);
                    // Whoever asked may have hung up.
                    let _ = told.map(|told| told.send(settled.receipt));
                }
                Ok(Answer::Reconciled(reconciled)) => {
                    reconciled.moved.iter().for_each(|id| self.service.hub.notify_maybe_ended(*id));
                }
                Ok(Answer::NoRoom(_) | Answer::OutputMissing(_) | Answer::Nothing) | Err(_) => {}
            }
        }
    }

    fn settled(&mut self, command_id: CommandId, settled: Settled) {
        self.custody.drop_command(command_id);
        if self.handle.release(command_id) {
            self.service.hub.wake(self.handle.agent_id);
        }
        // Also of a report that was recorded before: its commit may have stood without an answer.
        self.service.hub.output_finished();
        if settled.was_open {
            self.service.hub.notify_ended(command_id, settled.job_id);
        }
    }

    async fn tell_receipt<T: AgentTransport>(
        &mut self,
        command_id: CommandId,
        receipt: Receipt,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        if self.handle.is_full {
            return self.acknowledge(command_id, None, Some(receipt), transport).await;
        }
        if receipt == Receipt::UnknownCommand {
            let message = format!("no command {command_id} is open for this agent");
            let frame = ServerFrame::Error { code: ErrorCode::UnknownCommand, message };
            transport.feed(&frame).await?;
        }
        Ok(())
    }

    async fn reconciled<T: AgentTransport>(
        &mut self,
        reconciled: Reconciled,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        for (command_id, disposition) in reconciled.dispositions {
            let (offset, receipt) = match disposition {
                Disposition::SendFrom(committed) => {
                    self.custody.hold(command_id, committed);
                    (Some(committed.offset_bytes), None)
                }
                Disposition::Done(receipt) => (None, Some(receipt)),
            };
            self.acknowledge(command_id, offset, receipt, transport).await?;
        }
        for command_id in reconciled.cancels {
            let frame = ServerFrame::Cancel { command_id: command_id.0, grace_ms: CANCEL_GRACE_MS };
            transport.feed(&frame).await?;
        }
        for command_id in reconciled.moved {
            self.service.hub.notify_maybe_ended(command_id);
        }
        self.make_ready(reconciled.open);
        Ok(())
    }

    pub(super) async fn acknowledge<T: AgentTransport>(
        &mut self,
        command_id: CommandId,
        offset_bytes: Option<u64>,
        receipt: Option<Receipt>,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let ack = Ack { command_id: command_id.0, offset_bytes, receipt };
        Ok(transport.feed(&ServerFrame::Ack(ack)).await?)
    }
}
