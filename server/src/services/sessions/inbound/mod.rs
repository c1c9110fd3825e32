//! Frames from an agent, each against the state of its session.

mod host;
mod work;

use std::collections::HashSet;
use std::num::NonZeroU32;

use bytes::Bytes;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use muster_protocol::CloseCode;
use muster_protocol::frame::{
    AgentFrame, DecodeError, ErrorCode, Receipt, Registration, ServerFrame, decode_agent_frame,
};
use tokio::time::Instant;

use super::live::Live;
use super::{AgentTransport, Inbound, SessionEnd};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::fault::Fault;
use crate::store::writer::{Listed, Progress};

/// Frames of one session that may be refused before it is closed.
const MAX_ERRORS: u32 = 100;
/// Unknown frame types of one session that are told apart.
const MAX_UNKNOWN_TYPES: usize = 32;
/// Longest sentence that refuses a frame, in characters: what an agent sent may stand in it.
const MAX_ERROR_ANSWER_CHARS: usize = 300;
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
            Ok(AgentFrame::UpdateResult { result: verdict }) => self.record_verdict(verdict).await,
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
}
