//! Frames from an agent, each against the state of its session.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use muster_protocol::CloseCode;
use muster_protocol::frame::output::decode_frame;
use muster_protocol::frame::{
    AgentFrame, DecodeError, ErrorCode, Heartbeat, InventoryItem, Outcome, Receipt, Registration,
    Response, ServerFrame, Telemetry, decode_agent_frame,
};
use muster_protocol::limits::MAX_INVENTORY_PAGE;
use muster_protocol::manifest::Manifest;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answers::Answer;
use super::custody;
use super::live::Live;
use super::{AgentTransport, Inbound, SessionEnd, verdicts};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::fault::{self, Fault};
use crate::hub::{HostRules, TransientAnswer};
use crate::store::StoreError;
use crate::store::blobs::BlobError;
use crate::store::entities::agent_manifest;
use crate::store::writer::{
    AppendOutput, Listed, Pending, Progress, Reconcile, RecordHeartbeat, RecordManifest,
    RecordProgress, Report, Settle, Settled, Writer,
};

/// Commands that one inventory may list.
const MAX_INVENTORY: usize = 20_000;
/// Frames of one session that may be refused before it is closed.
const MAX_ERRORS: u32 = 100;
/// Unknown frame types of one session that are told apart.
const MAX_UNKNOWN_TYPES: usize = 32;
/// Heartbeats closer together than this are answered and not stored.
const HEARTBEAT_STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest sentence that refuses a frame, in characters: what an agent sent may stand in it.
const MAX_ERROR_ANSWER_CHARS: usize = 300;
/// Longest word for a policy that is kept, in characters.
const MAX_POLICY_CHARS: usize = 64;
/// Longest error sentence of an agent that is kept, in characters.
const MAX_ERROR_CHARS: usize = 2_000;

/// Frames of one session per second, and at once.
const FRAMES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5_000).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

const VIOLATION: SessionEnd = SessionEnd::Closed(CloseCode::PolicyViolation);

/// What a session remembers of the frames it was sent.
pub(super) struct Intake {
    pub(super) opened_at: Instant,
    pub(super) last_heard_at: Instant,
    heartbeat_stored_at: Option<Instant>,
    unknown_types: HashSet<String>,
    errors: u32,
    /// Of a full agent, until its inventory is complete.
    inventory: Option<Vec<Listed>>,
    rate: DefaultDirectRateLimiter,
}

impl Intake {
    /// Waits until the agent may send another frame: one that sends too many is read more
    /// slowly, and its own connection fills up.
    async fn pace(&self) {
        while let Err(early) = self.rate.check() {
            let wait = early.wait_time_from(DefaultClock::default().now());
            tokio::time::sleep(wait).await;
        }
    }
}

impl Default for Intake {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            opened_at: now,
            last_heard_at: now,
            heartbeat_stored_at: None,
            unknown_types: HashSet::new(),
            errors: 0,
            inventory: Some(Vec::new()),
            rate: RateLimiter::direct(Quota::per_second(FRAMES_PER_SECOND).allow_burst(BURST)),
        }
    }
}

/// Waits for `register`; anything else before it is answered with `error`.
pub(super) async fn registration<T: AgentTransport>(
    transport: &mut T,
) -> Result<Registration, SessionEnd> {
    for _ in 0..MAX_ERRORS {
        let text = match transport.receive().await? {
            Inbound::Text(text) => text,
            Inbound::Alive => continue,
            Inbound::Binary(_) | Inbound::Report(..) => return Err(VIOLATION),
            Inbound::Bye => return Err(SessionEnd::Gone),
        };
        let (code, message) = match decode(&text) {
            Ok(AgentFrame::Register { data }) => return Ok(*data),
            Ok(_) => (ErrorCode::UnexpectedFrame, "send `register` first".to_owned()),
            Err(error) => (error.code(), clean(&error.to_string(), MAX_ERROR_ANSWER_CHARS)),
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

/// The commit of what was acknowledged before.
fn too_late(writer: Writer, operation: Settle) -> Pending<Settled> {
    let commit = tokio::spawn(async move {
        tokio::time::sleep(fault::DELAY).await;
        writer.commit(operation).await
    });
    Box::pin(async move { commit.await.unwrap_or(Err(StoreError::WriterStopped)) })
}

impl Live {
    pub(super) async fn receive<T: AgentTransport>(
        &mut self,
        inbound: Inbound,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let text = match inbound {
            Inbound::Alive => return Ok(()),
            Inbound::Bye => return Err(SessionEnd::Gone),
            Inbound::Report(response, told) => return self.response(*response, Some(told)).await,
            Inbound::Binary(bytes) => {
                self.intake.pace().await;
                return self.output(bytes, transport).await;
            }
            Inbound::Text(text) => text,
        };
        self.intake.pace().await;
        let frame = match decode(&text) {
            // It came with full agents: to others it is no frame at all.
            Ok(AgentFrame::Deregister) if !self.handle.is_full => {
                Err(DecodeError::UnknownType("deregister".into()))
            }
            frame => frame,
        };
        match frame {
            Ok(AgentFrame::Register { .. }) => {
                let message = "this session is registered already".into();
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
                let message = "this frame belongs to the full protocol: register with it".into();
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
            Ok(AgentFrame::Manifest { manifest, error, policy }) => {
                self.manifest(manifest, error, policy).await
            }
            Ok(AgentFrame::Inventory { items }) => self.inventory(&items),
            Ok(AgentFrame::InventoryEnd) => self.inventory_end().await,
            Ok(AgentFrame::Deregister) => self.deregister(transport).await,
            Ok(AgentFrame::UpdateVerdict { verdict }) => self.record_verdict(verdict).await,
            Err(error) => {
                if let DecodeError::UnknownType(kind) = &error
                    && self.intake.unknown_types.len() < MAX_UNKNOWN_TYPES
                    && !self.intake.unknown_types.insert(kind.clone())
                {
                    return Ok(());
                }
                self.refuse(error.code(), error.to_string(), transport).await
            }
        }
    }

    pub(super) async fn refuse<T: AgentTransport>(
        &mut self,
        code: ErrorCode,
        message: String,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        self.intake.errors += 1;
        if self.intake.errors > MAX_ERRORS {
            return Err(VIOLATION);
        }
        let message = clean(&message, MAX_ERROR_ANSWER_CHARS);
        Ok(transport.feed(&ServerFrame::Error { code, message }).await?)
    }

    async fn heartbeat<T: AgentTransport>(
        &mut self,
        heartbeat: &Heartbeat,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let now = self.service.clock.now();
        let is_due = self
            .intake
            .heartbeat_stored_at
            .is_none_or(|at| at.elapsed() >= HEARTBEAT_STORE_INTERVAL);
        if is_due {
            self.intake.heartbeat_stored_at = Some(Instant::now());
            self.service.heartbeats.add(RecordHeartbeat {
                agent_id: self.handle.agent_id,
                epoch: self.handle.epoch,
                telemetry: Telemetry::from_status(&heartbeat.status),
                now,
            });
        }
        let ack = ServerFrame::HeartbeatAck { timestamp: now.to_string() };
        Ok(transport.feed(&ack).await?)
    }

    /// `told`: who is to learn what became of it, instead of the agent by a frame.
    async fn response(
        &mut self,
        response: Response,
        told: Option<oneshot::Sender<Receipt>>,
    ) -> Result<(), SessionEnd> {
        let command_id = CommandId(response.command_id);
        let error = response.error.map(|text| clean(&text, MAX_ERROR_CHARS));
        let error_code = response.error_code.map(|text| clean(&text, 64));
        if self.handle.waiters.contains(command_id) {
            let answer = TransientAnswer {
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
                verdicts::told(response.command_id, &response.data, error_code.as_deref())
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

    async fn progress<T: AgentTransport>(
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

    async fn manifest(
        &mut self,
        manifest: Manifest,
        error: Option<String>,
        policy: Option<String>,
    ) -> Result<(), SessionEnd> {
        let agent_id = self.handle.agent_id;
        let text = serde_json::to_string(&manifest).map_err(|_| VIOLATION)?;
        let digest = self.service.lists.keep(&text, manifest);
        let policy = policy.map(|policy| clean(&policy, MAX_POLICY_CHARS));
        let policy: Option<Arc<str>> = policy.map(Into::into);
        // An agent that says nothing of its policy here said it when it registered.
        let known = self.handle.rules.get().policy;
        let error = error.map(|text| clean(&text, MAX_ERROR_CHARS));
        let rules = HostRules {
            manifest: Some(digest),
            manifest_error: error.as_deref().map(Into::into),
            policy: policy.or_else(|| known.clone()),
        };
        let new_policy = rules.policy.clone().filter(|policy| Some(policy) != known.as_ref());
        self.handle.rules.replace(rules);
        let row = agent_manifest::Model {
            agent_id,
            manifest: text,
            digest: Some(digest.0.to_vec()),
            error,
            reported_at: self.service.clock.now(),
        };
        let operation = RecordManifest {
            agent_id,
            epoch: self.handle.epoch,
            row,
            new_policy: new_policy.map(|policy| policy.to_string()),
        };
        let stored = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        let cache = self.service.cache.clone();
        self.pending.push_back(Box::pin(async move {
            stored.await?;
            cache.forget_agent(agent_id);
            Ok(Answer::Nothing)
        }));
        Ok(())
    }

    fn inventory(&mut self, items: &[InventoryItem]) -> Result<(), SessionEnd> {
        let listed = self.intake.inventory.as_mut().ok_or(VIOLATION)?;
        if items.len() > MAX_INVENTORY_PAGE || listed.len() + items.len() > MAX_INVENTORY {
            return Err(VIOLATION);
        }
        listed.extend(
            items
                .iter()
                .map(|item| Listed { command_id: CommandId(item.command_id), state: item.state }),
        );
        Ok(())
    }

    async fn inventory_end(&mut self) -> Result<(), SessionEnd> {
        let listed = self.intake.inventory.take().ok_or(VIOLATION)?;
        let operation = Reconcile {
            agent_id: self.handle.agent_id,
            epoch: self.handle.epoch,
            listed,
            now: self.service.clock.now(),
        };
        let done = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        self.pending.push_back(Box::pin(async move { Ok(Answer::Reconciled(done.await?)) }));
        Ok(())
    }

    async fn output<T: AgentTransport>(
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
            custody::Intake::Append(chunk) => {
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
            custody::Intake::Refused => Ok(()),
            // In its turn, behind the commits of what came before it.
            custody::Intake::Known { offset_bytes } => {
                self.pending.push_back(Box::pin(async move {
                    Ok(Answer::Output { command_id, offset_bytes })
                }));
                Ok(())
            }
            custody::Intake::UnknownCommand => {
                let receipt = Some(Receipt::UnknownCommand);
                self.acknowledge(command_id, None, receipt, transport).await
            }
            custody::Intake::Violation => Err(VIOLATION),
        }
    }
}
