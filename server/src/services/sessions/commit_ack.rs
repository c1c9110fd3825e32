//! Acknowledges to the agent what was committed. An acknowledgement never precedes its commit.

use std::time::Duration;

use futures_util::StreamExt as _;
use muster_protocol::CloseCode;
use muster_protocol::frame::{ErrorCode, Receipt, ServerFrame};
use muster_protocol::limits::CANCEL_GRACE_MS;
use tokio::time::Instant;

use super::live::{CommitAck, LiveSession};
use super::{AgentTransport, SessionEnd};
use crate::domain::ids::CommandId;
use crate::services::certificates::client_certificates::AgentCertificate;
use crate::store::StoreError;
use crate::store::blobs::BlobError;
use crate::store::writer::{Disposition, Reconciled, Settled};

/// How long output waits on its host when the server's disk is full.
const OUTPUT_RETRY: Duration = Duration::from_secs(30);

impl LiveSession {
    pub(super) async fn acknowledge_commit<T: AgentTransport>(
        &mut self,
        committed: Result<CommitAck, StoreError>,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let committed = committed.map_err(|error| match error {
            StoreError::StaleEpoch => SessionEnd::Closed(CloseCode::SessionReplaced),
            error => {
                // The agent sends again what was not acknowledged.
                tracing::warn!(agent_id = %self.handle.agent_id, %error, "failed to commit for a session");
                SessionEnd::Closed(CloseCode::TryAgainLater)
            }
        })?;
        match committed {
            CommitAck::None => Ok(()),
            CommitAck::Progress(command_id) => {
                self.service.hub.notify_progress(command_id);
                Ok(())
            }
            CommitAck::Output { command_id, offset_bytes } => {
                self.service.hub.output_appended(command_id);
                self.acknowledge(command_id, Some(offset_bytes), None, transport).await
            }
            CommitAck::NoSpace(command_id) => {
                self.refuse_output(command_id);
                Ok(())
            }
            CommitAck::OutputMissing(command_id) => self.check_missing_output(command_id),
            CommitAck::Settled { command_id, settled, receipt } => {
                self.notify_settled(command_id, settled);
                match receipt {
                    Some(receipt) => {
                        // Fails if the request that waited for it has ended.
                        let _ = receipt.send(settled.receipt);
                        Ok(())
                    }
                    None => self.send_receipt(command_id, settled.receipt, transport).await,
                }
            }
            CommitAck::TaskRun { command_id, known: Some(max_log_bytes) } => {
                self.output.keep_newest(command_id, max_log_bytes);
                self.service.hub.notify_progress(command_id);
                self.acknowledge(command_id, Some(0), None, transport).await
            }
            CommitAck::TaskRun { command_id, known: None } => {
                self.output.remove(command_id);
                let receipt = Some(Receipt::UnknownCommand);
                self.acknowledge(command_id, None, receipt, transport).await
            }
            CommitAck::Reconciled(reconciled) => self.finish_handshake(reconciled, transport).await,
            CommitAck::Certificate { public_key, issued } => {
                self.certificate = Some(AgentCertificate { public_key, expires_at: None });
                self.send_certificate(issued, transport).await
            }
        }
    }

    /// Refuses further output of one command. The end of the session makes the agent send it again.
    fn refuse_output(&mut self, command_id: CommandId) {
        self.output.refuse(command_id);
        if self.retry_output_at.is_none() {
            let error = BlobError::NoSpace;
            tracing::warn!(agent_id = %self.handle.agent_id, %command_id, %error, "output waits on its host");
            self.retry_output_at = Some(Instant::now() + OUTPUT_RETRY);
        }
    }

    /// Commits finish in the order of the frames, so the result of the earlier output is known. If
    /// it was refused for lack of space, this frame was sent before the agent could know.
    fn check_missing_output(&self, command_id: CommandId) -> Result<(), SessionEnd> {
        if self.output.is_refused(command_id) {
            return Ok(());
        }
        let (agent_id, error) = (self.handle.agent_id, StoreError::OutputMissing);
        tracing::warn!(%agent_id, %command_id, %error, "failed to commit for a session");
        Err(SessionEnd::Closed(CloseCode::TryAgainLater))
    }

    /// Waits for the remaining commits of an ended session and sends their notifications: its last
    /// frames may have ended commands.
    pub(super) async fn finish_pending(&mut self) {
        while let Some(committed) = self.pending.next().await {
            match committed {
                Ok(CommitAck::Progress(command_id) | CommitAck::TaskRun { command_id, .. }) => {
                    self.service.hub.notify_progress(command_id)
                }
                Ok(CommitAck::Output { command_id, .. }) => {
                    self.service.hub.output_appended(command_id);
                }
                Ok(CommitAck::Settled { command_id, settled, receipt }) => {
                    self.notify_settled(command_id, settled);
                    // Fails if the request that waited for it has ended.
                    let _ = receipt.map(|receipt| receipt.send(settled.receipt));
                }
                Ok(CommitAck::Reconciled(reconciled)) => {
                    let changed = reconciled.changed.iter();
                    changed.for_each(|id| self.service.hub.notify_maybe_ended(*id));
                }
                Ok(
                    CommitAck::NoSpace(_)
                    | CommitAck::OutputMissing(_)
                    | CommitAck::Certificate { .. }
                    | CommitAck::None,
                )
                | Err(_) => {}
            }
        }
    }

    fn notify_settled(&mut self, command_id: CommandId, settled: Settled) {
        self.output.remove(command_id);
        if self.handle.free_slot(command_id) {
            self.service.hub.wake(self.handle.agent_id);
        }
        // Also for a repeated report: the first commit may have had no answer.
        self.service.hub.output_finished();
        if settled.was_open {
            if let Some(next) = settled.next_attempt {
                self.service.hub.notify_progress(next);
            }
            self.service.hub.notify_ended(command_id, settled.job_id);
        }
    }

    async fn send_receipt<T: AgentTransport>(
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

    /// Answers the inventory, and opens the session for durable commands.
    async fn finish_handshake<T: AgentTransport>(
        &mut self,
        reconciled: Reconciled,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        for (command_id, disposition) in reconciled.dispositions {
            let (offset, receipt) = match disposition {
                Disposition::SendFrom(committed) => {
                    self.output.track_from(command_id, committed);
                    let max_log_bytes = reconciled.max_log_bytes.get(&command_id).copied();
                    self.output.keep_newest(command_id, max_log_bytes);
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
        for command_id in reconciled.changed {
            self.service.hub.notify_maybe_ended(command_id);
        }
        self.make_ready(reconciled.open);
        Ok(())
    }
}
