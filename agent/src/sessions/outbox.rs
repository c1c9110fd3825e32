//! What still has to be sent in this session: output by offset, then the result.
//!
//! Created for every session; the files and the ledger are what persists. It produces one frame at
//! a time, as large as the pacer allows, so that nothing queues up, and serves all commands in turn.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use muster_protocol::frame::AgentFrame;
use tokio::time::Instant;
use uuid::Uuid;

use crate::executions::ExecutionManager;
use crate::executions::ledger::Phase;
use crate::executions::ledger::record::Attestor;
use crate::executions::output_reader::OutputReader;
use crate::executions::output_release;
use crate::link::Outgoing;
use crate::sessions::pacer::Pacer;

/// Acknowledged output of a service after which its space is released.
const RELEASE_STEP_BYTES: u64 = 256 * 1024;

/// The outbox of one session.
#[derive(Debug)]
pub struct Outbox {
    entries: BTreeMap<Uuid, OutboxEntry>,
    queue: VecDeque<Uuid>,
    /// Commands with output that waits for an acknowledgement of any command.
    blocked: Vec<Uuid>,
    /// When they were last tried again although nothing was acknowledged.
    retried_at: Option<Instant>,
    pacer: Pacer,
}

#[derive(Debug, Default)]
struct OutboxEntry {
    /// Listed in the inventory and not acknowledged yet: no output is sent.
    awaits_offset: bool,
    /// The server does not know the command or has ended it: only the result is sent.
    is_output_unwanted: bool,
    /// The server has acknowledged output that was sent later, and not this. It cannot store this
    /// output now, for example because its disk is full, and gets no more of it meanwhile.
    is_overtaken: bool,
    is_queued: bool,
    /// Its `response` has been sent in this session.
    is_reported: bool,
    reader: Option<OutputReader>,
    sent_bytes: u64,
    acked_bytes: u64,
    /// Acknowledged output that was considered for release.
    considered_bytes: u64,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(pacer: Pacer) -> Self {
        let (entries, queue) = (BTreeMap::new(), VecDeque::new());
        Self { entries, queue, blocked: Vec::new(), retried_at: None, pacer }
    }

    /// Sends no output of a listed command until the server has acknowledged its offset.
    pub fn await_offset(&mut self, command_id: Uuid) {
        self.entries.entry(command_id).or_default().awaits_offset = true;
    }

    /// True for a listed command whose offset is not acknowledged yet.
    pub fn awaits_offset(&self, command_id: Uuid) -> bool {
        self.entries.get(&command_id).is_some_and(|entry| entry.awaits_offset)
    }

    /// Queues a command that may have something to send.
    pub fn enqueue(&mut self, command_id: Uuid) {
        let entry = self.entries.entry(command_id).or_default();
        if !entry.is_queued {
            entry.is_queued = true;
            self.queue.push_back(command_id);
        }
    }

    /// Sends the result again to a server that requests it.
    pub fn resend_result(&mut self, command_id: Uuid) {
        self.entries.entry(command_id).or_default().is_reported = false;
        self.enqueue(command_id);
    }

    /// The server has committed output up to this offset. Output may be sent from there.
    pub fn acknowledge(&mut self, command_id: Uuid, offset_bytes: Option<u64>) {
        let Some(entry) = self.entries.get_mut(&command_id) else { return };
        let offset_bytes = offset_bytes.unwrap_or(entry.acked_bytes);
        if entry.awaits_offset {
            entry.awaits_offset = false;
            entry.reader = None;
            entry.sent_bytes = offset_bytes;
            entry.acked_bytes = offset_bytes;
        } else {
            // A server can't commit what was not sent; a higher offset opens no larger window.
            let credible = offset_bytes.min(entry.sent_bytes);
            entry.acked_bytes = entry.acked_bytes.max(credible);
            entry.is_overtaken = false;
            for overtaken in self.pacer.acknowledged(command_id, credible, Instant::now()) {
                if let Some(entry) = self.entries.get_mut(&overtaken) {
                    entry.is_overtaken = true;
                }
            }
        }
        self.enqueue(command_id);
        self.enqueue_blocked();
    }

    /// The server needs no output of this command, which still runs here.
    pub fn stop_output(&mut self, command_id: Uuid) {
        let entry = self.entries.entry(command_id).or_default();
        entry.is_output_unwanted = true;
        entry.awaits_offset = false;
        entry.reader = None;
        self.pacer.forget(command_id);
        self.enqueue_blocked();
    }

    /// Nothing more of this command has to be sent.
    pub fn remove(&mut self, command_id: Uuid) {
        self.entries.remove(&command_id);
        self.pacer.forget(command_id);
        self.enqueue_blocked();
    }

    /// A frame without output was answered after this time, while no output was on its way.
    pub fn note_round_trip(&mut self, round_trip: Duration) {
        self.pacer.note_round_trip(round_trip);
    }

    /// True if no output is on its way.
    pub fn is_idle(&self) -> bool {
        self.pacer.is_idle()
    }

    /// How much output may travel as one piece.
    pub fn batch_bytes(&self) -> usize {
        self.pacer.batch_bytes()
    }

    /// When to call [`Outbox::retry_blocked`].
    pub fn next_retry_at(&self) -> Option<Instant> {
        let stalled_at = self.pacer.stalled_at();
        let retry_at = self.retried_at.map(|at| at + self.pacer.stall_time());
        (!self.blocked.is_empty()).then(|| retry_at.map_or(stalled_at, |at| at.max(stalled_at)))
    }

    /// Queues the commands that wait for an acknowledgement, if none has come for long: output of
    /// one command that the server does not store must not hold up the others.
    pub fn retry_blocked(&mut self, now: Instant) {
        if self.next_retry_at().is_some_and(|at| at <= now) {
            self.retried_at = Some(now);
            self.enqueue_blocked();
        }
    }

    fn enqueue_blocked(&mut self) {
        for command_id in std::mem::take(&mut self.blocked) {
            if self.entries.contains_key(&command_id) {
                self.enqueue(command_id);
            }
        }
    }

    /// Queues all commands: output that could not be read before may be readable now.
    pub fn enqueue_all(&mut self) {
        let all: Vec<_> = self.entries.keys().copied().collect();
        for command_id in all {
            self.enqueue(command_id);
        }
    }

    /// True if [`Outbox::next_frame`] may return a frame.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next frame, serving the commands in turn; `None` if there is nothing to send.
    pub fn next_frame(
        &mut self,
        executions: &ExecutionManager,
        attestor: &Attestor<'_>,
    ) -> Option<Outgoing> {
        while let Some(command_id) = self.queue.pop_front() {
            let Some(entry) = self.entries.get_mut(&command_id) else { continue };
            entry.is_queued = false;
            match entry.next_step(command_id, executions, attestor, &mut self.pacer) {
                SendStep::Frame(frame) => {
                    self.enqueue(command_id);
                    return Some(frame);
                }
                SendStep::WindowFull => self.blocked.push(command_id),
                SendStep::Nothing => {}
            }
        }
        None
    }
}

/// The next step for a command.
enum SendStep {
    Frame(Outgoing),
    /// Its output waits for an acknowledgement of any command.
    WindowFull,
    Nothing,
}

impl From<Option<Outgoing>> for SendStep {
    fn from(frame: Option<Outgoing>) -> Self {
        frame.map_or(Self::Nothing, Self::Frame)
    }
}

/// The next step for a command's output.
enum OutputStep {
    Frame(Vec<u8>),
    /// Nothing may be sent until the server has acknowledged more.
    WindowFull,
    AllSent,
}

impl OutboxEntry {
    fn next_step(
        &mut self,
        command_id: Uuid,
        executions: &ExecutionManager,
        attestor: &Attestor<'_>,
        pacer: &mut Pacer,
    ) -> SendStep {
        let phase = executions.ledger().entry(command_id).map(|entry| entry.phase);
        if phase.is_none() {
            // Receipted: the response is sent again on request; the output is deleted.
            return self.report(command_id, executions, attestor).into();
        }
        // Read before the output, so that output that arrives later is sent the next time.
        let is_settled = phase == Some(Phase::Settled);
        if self.awaits_offset {
            let has_output = executions.state().execution(command_id).output().exists();
            return if is_settled && !has_output {
                self.report(command_id, executions, attestor).into()
            } else {
                SendStep::Nothing
            };
        }
        match self.output(command_id, executions, pacer) {
            Ok(OutputStep::Frame(frame)) => SendStep::Frame(Outgoing::Binary(frame)),
            Ok(OutputStep::AllSent) if is_settled => {
                self.report(command_id, executions, attestor).into()
            }
            Ok(OutputStep::AllSent) => SendStep::Nothing,
            Ok(OutputStep::WindowFull) => SendStep::WindowFull,
            Err(error) => {
                // The result is not reported either: its receipt would delete the output that was
                // not sent.
                tracing::error!(%command_id, %error, "failed to read output; trying again later");
                self.reader = None;
                SendStep::Nothing
            }
        }
    }

    fn output(
        &mut self,
        command_id: Uuid,
        executions: &ExecutionManager,
        pacer: &mut Pacer,
    ) -> io::Result<OutputStep> {
        if self.is_output_unwanted || self.is_reported {
            return Ok(OutputStep::AllSent);
        }
        self.release(command_id, executions);
        if self.is_overtaken {
            return Ok(OutputStep::WindowFull);
        }
        if self.reader.is_none() {
            let path = executions.state().execution(command_id).output();
            match OutputReader::open_at(&path, self.sent_bytes) {
                Ok(reader) if reader.offset_bytes() == self.sent_bytes => {
                    self.reader = Some(reader);
                }
                // The server has more output than this host, which lost some of it in a power loss.
                Ok(_) => return Ok(OutputStep::AllSent),
                // The command has not started yet, or never ran.
                Err(error) if is_absent(&error) => {
                    return Ok(OutputStep::AllSent);
                }
                Err(error) => return Err(error),
            }
        }
        let Some(reader) = self.reader.as_mut() else { return Ok(OutputStep::AllSent) };
        let allowance = pacer.allowance(command_id, Instant::now());
        if allowance == 0 {
            let is_all_sent = reader.is_at_end()?;
            return Ok(if is_all_sent { OutputStep::AllSent } else { OutputStep::WindowFull });
        }
        let Some(frame) = reader.next_frame(command_id, allowance)? else {
            return Ok(OutputStep::AllSent);
        };
        let payload_bytes = reader.offset_bytes() - self.sent_bytes;
        self.sent_bytes = reader.offset_bytes();
        pacer.sent(command_id, self.sent_bytes, payload_bytes, Instant::now());
        Ok(OutputStep::Frame(frame))
    }

    /// Releases the output of a service that the server has stored.
    fn release(&mut self, command_id: Uuid, executions: &ExecutionManager) {
        let is_service =
            || executions.ledger().entry(command_id).is_some_and(|entry| entry.is_service());
        if self.acked_bytes < self.considered_bytes + RELEASE_STEP_BYTES || !is_service() {
            return;
        }
        self.considered_bytes = self.acked_bytes;
        let path = executions.state().execution(command_id).output();
        if let Err(error) = output_release::release(&path, self.acked_bytes) {
            tracing::debug!(%command_id, %error, "failed to release stored output");
        }
    }

    fn report(
        &mut self,
        command_id: Uuid,
        executions: &ExecutionManager,
        attestor: &Attestor<'_>,
    ) -> Option<Outgoing> {
        if self.is_reported {
            return None;
        }
        let settlement = executions.ledger().settlement(command_id)?;
        self.is_reported = true;
        self.reader = None;
        encode(&AgentFrame::Response(settlement.attested_response(command_id, attestor)))
    }
}

/// Encodes a frame as text. Never `None`: frames are plain data.
pub fn encode(frame: &AgentFrame) -> Option<Outgoing> {
    serde_json::to_string(frame).map(Outgoing::Text).ok()
}

/// True if the file or its folder does not exist.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
