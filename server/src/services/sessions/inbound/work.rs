//! What an agent tells of the commands that it was given: how far they are, their output, their end.

use bytes::Bytes;
use muster_protocol::frame::output::decode_frame;
use muster_protocol::frame::{ErrorCode, Outcome, Receipt, Response};
use tokio::sync::oneshot;

use super::{MAX_ERROR_CHARS, VIOLATION};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::fault;
use crate::fault::Fault;
use crate::hub::TransientReply;
use crate::services::sessions::commit_ack::Answer;
use crate::services::sessions::live::Live;
use crate::services::sessions::{AgentTransport, SessionEnd, output_tracker, update_results};
use crate::store::StoreError;
use crate::store::blobs::BlobError;
use crate::store::writer::{
    AppendOutput, Pending, Progress, RecordProgress, Report, Settle, Settled, Writer,
};

/// The commit of what was acknowledged before.
fn too_late(writer: Writer, operation: Settle) -> Pending<Settled> {
    let commit = tokio::spawn(async move {
        tokio::time::sleep(fault::DELAY).await;
        writer.commit(operation).await
    });
    Box::pin(async move { commit.await.unwrap_or(Err(StoreError::WriterStopped)) })
}

impl Live {
    /// `told`: who is to learn what became of it, instead of the agent by a frame.
    pub(super) async fn response(
        &mut self,
        response: Response,
        told: Option<oneshot::Sender<Receipt>>,
    ) -> Result<(), SessionEnd> {
        let command_id = CommandId(response.command_id);
        let error = response.error.map(|text| clean(&text, MAX_ERROR_CHARS));
        let error_code = response.error_code.map(|text| clean(&text, 64));
        if self.handle.waiters.contains(command_id) {
            let answer = TransientReply {
                success: response.success,
                data: response.data,
                error,
                error_code,
            };
            // Whoever waited may have given up this moment; nothing else wants the answer.
            let _ = self.handle.waiters.answer(command_id, answer);
            if let Some(told) = told {
                let _ = told.send(Receipt::Recorded);
            }
            return Ok(());
        }
        if self.custody.is_refused(command_id) {
            return Ok(());
        }
        if self.handle.is_full
            && let Some(verdict) =
                update_results::told(response.command_id, &response.data, error_code.as_deref())
        {
            self.record_verdict(verdict).await?;
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
            },
            last_chunk_bytes: self.custody.last_chunk_bytes(command_id),
            now: self.service.clock.now(),
        };
        let writer = self.service.store.writer();
        let settled = if Fault::EarlyAck.is_on() {
            too_late(writer.clone(), operation)
        } else {
            writer.enqueue(operation).await.map_err(|_| VIOLATION)?
        };
        self.pending.push_back(Box::pin(async move {
            match settled.await {
                Err(StoreError::OutputMissing) => Ok(Answer::OutputMissing(command_id)),
                settled => Ok(Answer::Settled { command_id, settled: settled?, told }),
            }
        }));
        Ok(())
    }

    pub(super) async fn progress<T: AgentTransport>(
        &mut self,
        command_id: CommandId,
        progress: Progress,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        if !self.custody.holds(command_id) {
            let message = format!("no command {command_id} is open for this agent");
            return self.refuse(ErrorCode::UnknownCommand, message, transport).await;
        }
        if matches!(progress, Progress::Started { .. }) {
            self.custody.start(command_id);
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
            Ok(Answer::Progress(command_id))
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
                tracing::info!(agent_id = %self.handle.agent_id, %error, "output refused");
                return Err(VIOLATION);
            }
        };
        let command_id = CommandId(frame.command_id);
        match self.custody.take(&frame, &bytes) {
            output_tracker::Intake::Append(chunk) => {
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
                        Err(StoreError::Blob(BlobError::NoSpace)) => Ok(Answer::NoRoom(command_id)),
                        Err(StoreError::OutputMissing) => Ok(Answer::OutputMissing(command_id)),
                        stored => Ok(Answer::Output { command_id, offset_bytes: stored? }),
                    }
                }));
                Ok(())
            }
            output_tracker::Intake::Refused => Ok(()),
            // In its turn, behind the commits of what came before it.
            output_tracker::Intake::Known { offset_bytes } => {
                self.pending.push_back(Box::pin(async move {
                    Ok(Answer::Output { command_id, offset_bytes })
                }));
                Ok(())
            }
            output_tracker::Intake::UnknownCommand => {
                let receipt = Some(Receipt::UnknownCommand);
                self.acknowledge(command_id, None, receipt, transport).await
            }
            output_tracker::Intake::Violation => Err(VIOLATION),
        }
    }
}
