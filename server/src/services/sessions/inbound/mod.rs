//! Handles frames from an agent.

mod assignments;
mod facts;
mod host;

use bytes::Bytes;
use muster_protocol::commands::attestation::Attestation;
use muster_protocol::commands::step::StepProgress;
use muster_protocol::frame::output::decode_frame;
use muster_protocol::frame::{
    AgentFrame, DecodeError, ErrorCode, Outcome, Receipt, Registration, Response, ServerFrame,
    decode_agent_frame,
};
use tokio::sync::oneshot;

use super::live::{CommitAck, LiveSession, MAX_ERROR_FRAME_CHARS, MAX_ERRORS, VIOLATION};
use super::output_tracker::FrameDecision;
use super::{AgentMessage, AgentTransport, SessionEnd, update_results};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::fault;
use crate::fault::Fault;
use crate::hub::TransientReply;
use crate::store::StoreError;
use crate::store::blobs::BlobError;
use crate::store::writer::{
    AppendOutput, Pending, Progress, RecordProgress, Report, Settle, Settled, Writer,
};

/// Most unknown frame types of one session that are remembered.
const MAX_UNKNOWN_TYPES: usize = 32;
/// Longest stored error message of an agent, in characters.
const MAX_ERROR_CHARS: usize = 2_000;

/// Waits for `register`. Every other frame before it is refused.
pub(super) async fn receive_registration<T: AgentTransport>(
    transport: &mut T,
) -> Result<Registration, SessionEnd> {
    for _ in 0..MAX_ERRORS {
        let text = match transport.receive().await? {
            AgentMessage::Text(text) => text,
            AgentMessage::KeepAlive => continue,
            AgentMessage::Binary(_) | AgentMessage::Report(..) => return Err(VIOLATION),
            AgentMessage::Closed => return Err(SessionEnd::Left),
        };
        let (code, message) = match decode(&text) {
            Ok(AgentFrame::Register { data }) => return Ok(*data),
            Ok(_) => (ErrorCode::UnexpectedFrame, "send `register` first".to_owned()),
            Err(error) => (error.code(), clean(&error.to_string(), MAX_ERROR_FRAME_CHARS)),
        };
        transport.feed(&ServerFrame::Error { code, message }).await?;
        transport.flush().await?;
    }
    Err(VIOLATION)
}

fn decode(text: &Bytes) -> Result<AgentFrame, DecodeError> {
    let text = std::str::from_utf8(text)
        .map_err(|_| DecodeError::MalformedJson("the text is not UTF-8".into()))?;
    decode_agent_frame(text)
}

impl LiveSession {
    pub(super) async fn receive<T: AgentTransport>(
        &mut self,
        message: AgentMessage,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let text = match message {
            AgentMessage::KeepAlive => return Ok(()),
            AgentMessage::Closed => return Err(SessionEnd::Left),
            AgentMessage::Report(response, receipt) => {
                return self.response(*response, Some(receipt)).await;
            }
            AgentMessage::Binary(bytes) => return self.output(bytes, transport).await,
            AgentMessage::Text(text) => text,
        };
        let frame = match decode(&text) {
            // A frame of the full protocol only, so a basic agent gets the error of an unknown type.
            Ok(AgentFrame::Deregister) if !self.handle.is_full => {
                Err(DecodeError::UnknownType("deregister".into()))
            }
            frame => frame,
        };
        match frame {
            Ok(AgentFrame::Register { .. }) => {
                let message = "this session is already registered".into();
                self.refuse(ErrorCode::UnexpectedFrame, message, transport).await
            }
            Ok(AgentFrame::Heartbeat(heartbeat)) => self.heartbeat(&heartbeat, transport).await,
            Ok(AgentFrame::Response(response)) => {
                if Fault::EarlyAck.is_on() {
                    let receipt = Some(Receipt::Recorded);
                    self.acknowledge(CommandId(response.command_id), None, receipt, transport)
                        .await?;
                }
                self.response(response, None).await
            }
            Ok(_) if !self.handle.is_full => {
                let message = "this frame needs the full protocol; register with it".into();
                self.refuse(ErrorCode::UnexpectedFrame, message, transport).await
            }
            Ok(AgentFrame::Accepted { command_id, acceptance_count }) => {
                let progress = Progress::Accepted { acceptance_count };
                self.progress(CommandId(command_id), progress, transport).await
            }
            Ok(AgentFrame::Started { command_id }) => {
                let command_id = CommandId(command_id);
                self.progress(command_id, Progress::Started { command_id }, transport).await
            }
            Ok(AgentFrame::StepProgress { command_id, progress }) => {
                let command_id = CommandId(command_id);
                let bounded = Some(progress).filter(StepProgress::is_bounded);
                let Some(Ok(progress)) = bounded.as_ref().map(serde_json::to_string) else {
                    let message = "there are more steps or larger results than an execution has";
                    return self.refuse(ErrorCode::InvalidFrame, message.into(), transport).await;
                };
                self.progress(command_id, Progress::Steps { command_id, progress }, transport).await
            }
            Ok(AgentFrame::Manifest { manifest, error, policy, forbidden_commands }) => {
                let policy = host::ReportedPolicy { allow: policy, forbidden_commands };
                self.manifest(manifest, error, policy).await
            }
            Ok(AgentFrame::Facts(report)) => self.facts(report).await,
            Ok(AgentFrame::Inventory { items }) => self.inventory(&items),
            Ok(AgentFrame::InventoryEnd) => self.inventory_end().await,
            Ok(AgentFrame::Deregister) => self.deregister(transport).await,
            Ok(AgentFrame::AssignmentStates { revision, items }) => {
                self.assignment_states(revision, items).await
            }
            Ok(AgentFrame::AuthoritiesStored { id }) => self.notice_stored(id),
            Ok(AgentFrame::TaskRun(run)) => self.task_run(run, transport).await,
            Ok(AgentFrame::UpdateResult { result }) => self.record_update_result(result).await,
            Err(error) => {
                if let DecodeError::UnknownType(kind) = &error
                    && self.inbound.unknown_types.len() < MAX_UNKNOWN_TYPES
                    && !self.inbound.unknown_types.insert(kind.clone())
                {
                    return Ok(());
                }
                self.refuse(error.code(), error.to_string(), transport).await
            }
        }
    }
}

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
                call: response.call,
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
                    received_at: self.service.clock.now(),
                    max_log_bytes: chunk.max_log_bytes,
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
