//! Frames about commands: progress, output and results.

use bytes::Bytes;
use muster_protocol::attestation::Attestation;
use muster_protocol::frame::output::decode_frame;
use muster_protocol::frame::{ErrorCode, Outcome, Receipt, Response};
use tokio::sync::oneshot;

use super::MAX_ERROR_CHARS;
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::fault;
use crate::fault::Fault;
use crate::hub::TransientReply;
use crate::services::sessions::live::{CommitAck, LiveSession, VIOLATION};
use crate::services::sessions::output_tracker::FrameDecision;
use crate::services::sessions::{AgentTransport, SessionEnd, update_results};
use crate::store::StoreError;
use crate::store::blobs::BlobError;
use crate::store::writer::{
    AppendOutput, Pending, Progress, RecordProgress, Report, Settle, Settled, Writer,
};

/// A commit that happens after its acknowledgement, for the chaos tests.
fn commit_late(writer: Writer, operation: Settle) -> Pending<Settled> {
    let commit = tokio::spawn(async move {
        tokio::time::sleep(fault::DELAY).await;
        writer.commit(operation).await
    });
    Box::pin(async move { commit.await.unwrap_or(Err(StoreError::WriterStopped)) })
}

impl LiveSession {
    /// Records a response. `receipt`: where to send the receipt instead of a frame.
    pub(super) async fn response(
        &mut self,
        response: Response,
        receipt: Option<oneshot::Sender<Receipt>>,
    ) -> Result<(), SessionEnd> {
        let command_id = CommandId(response.command_id);
        let error = response.error.map(|text| clean(&text, MAX_ERROR_CHARS));
        let error_code = response.error_code.map(|text| clean(&text, 64));
        if self.handle.pending_replies.contains(command_id) {
            let reply = TransientReply {
                success: response.success,
                data: response.data,
                error,
                error_code,
            };
            // Fails if the request timed out at this moment.
            let _ = self.handle.pending_replies.deliver(command_id, reply);
            if let Some(receipt) = receipt {
                let _ = receipt.send(Receipt::Recorded);
            }
            return Ok(());
        }
        if self.output.is_refused(command_id) {
            return Ok(());
        }
        if self.handle.is_full
            && let Some(result) = update_results::from_response(
                response.command_id,
                &response.data,
                error_code.as_deref(),
            )
        {
            self.record_update_result(result).await?;
        }
        let by_success = if response.success { Outcome::Succeeded } else { Outcome::Failed };
        let operation = Settle {
            agent_id: self.handle.agent_id,
            epoch: self.handle.epoch,
            command_id,
            report: Report {
                outcome: response.outcome.unwrap_or(by_success),
                data: response.data.to_string(),
                error,
                error_code,
                attestation: response.attestation.and_then(|signed| self.stored(&signed)),
            },
            last_chunk_bytes: self.output.last_chunk_bytes(command_id),
            now: self.service.clock.now(),
        };
        let writer = self.service.store.writer();
        let settled = if Fault::EarlyAck.is_on() {
            commit_late(writer.clone(), operation)
        } else {
            writer.enqueue(operation).await.map_err(|_| VIOLATION)?
        };
        self.pending.push_back(Box::pin(async move {
            match settled.await {
                Err(StoreError::OutputMissing) => Ok(CommitAck::OutputMissing(command_id)),
                settled => Ok(CommitAck::Settled { command_id, settled: settled?, receipt }),
            }
        }));
        Ok(())
    }

    /// The form in which an attestation is stored, exactly as the agent signed it. One that is too
    /// large is left out, and its execution counts as unsigned.
    fn stored(&self, attestation: &Attestation) -> Option<String> {
        if !self.handle.is_full || !attestation.is_bounded() {
            tracing::warn!(agent_id = %self.handle.agent_id, "left out an attestation");
            return None;
        }
        serde_json::to_string(attestation).ok()
    }

    pub(super) async fn progress<T: AgentTransport>(
        &mut self,
        command_id: CommandId,
        progress: Progress,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        if !self.output.is_tracked(command_id) {
            let message = format!("no command {command_id} is open for this agent");
            return self.refuse(ErrorCode::UnknownCommand, message, transport).await;
        }
        if matches!(progress, Progress::Started { .. }) {
            self.output.mark_started(command_id);
        }
        let operation = RecordProgress {
            agent_id: self.handle.agent_id,
            epoch: self.handle.epoch,
            progress,
            now: self.service.clock.now(),
        };
        let stored = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        self.pending.push_back(Box::pin(async move {
            stored.await?;
            Ok(CommitAck::Progress(command_id))
        }));
        Ok(())
    }

    pub(super) async fn output<T: AgentTransport>(
        &mut self,
        bytes: Bytes,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        if !self.handle.is_full {
            return Err(VIOLATION);
        }
        let frame = match decode_frame(&bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::info!(agent_id = %self.handle.agent_id, %error, "refused an output frame");
                return Err(VIOLATION);
            }
        };
        let command_id = CommandId(frame.command_id);
        match self.output.accept(&frame, &bytes) {
            FrameDecision::Append(chunk) => {
                let operation = AppendOutput {
                    agent_id: self.handle.agent_id,
                    epoch: self.handle.epoch,
                    command_id,
                    offset_bytes: chunk.start.offset_bytes,
                    length_bytes: chunk.length_bytes,
                    stdout_offset_bytes: chunk.start.stdout_bytes,
                    stdout_bytes: chunk.stdout_bytes,
                    records: chunk.records,
                };
                let stored =
                    self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
                self.pending.push_back(Box::pin(async move {
                    match stored.await {
                        Err(StoreError::Blob(BlobError::NoSpace)) => {
                            Ok(CommitAck::NoSpace(command_id))
                        }
                        Err(StoreError::OutputMissing) => Ok(CommitAck::OutputMissing(command_id)),
                        stored => Ok(CommitAck::Output { command_id, offset_bytes: stored? }),
                    }
                }));
                Ok(())
            }
            FrameDecision::Ignore => Ok(()),
            // Acknowledged in order, after the commits of the frames before it.
            FrameDecision::AlreadyReceived { offset_bytes } => {
                self.pending.push_back(Box::pin(async move {
                    Ok(CommitAck::Output { command_id, offset_bytes })
                }));
                Ok(())
            }
            FrameDecision::UnknownCommand => {
                let receipt = Some(Receipt::UnknownCommand);
                self.acknowledge(command_id, None, receipt, transport).await
            }
            FrameDecision::Violation => Err(VIOLATION),
        }
    }
}
