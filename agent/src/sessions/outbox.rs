//! What still has to be sent in this session: output by offset, then the result.
//!
//! Created for every session; the files and the ledger are what persists. It produces one frame at
//! a time, as large as the pacer allows, so that nothing queues up, and serves all commands in turn.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use muster_protocol::frame::AgentFrame;
use tokio::time::Instant;
use uuid::Uuid;

use crate::executions::ExecutionManager;
use crate::executions::ledger::Phase;
use crate::executions::ledger::record::Attestor;
use crate::executions::output_reader::OutputReader;
use crate::link::Outgoing;
use crate::sessions::pacer::Pacer;

/// The outbox of one session.
#[derive(Debug)]
pub struct Outbox {
    entries: BTreeMap<Uuid, OutboxEntry>,
    queue: VecDeque<Uuid>,
    /// Commands with output that waits for an acknowledgement of any command.
    blocked: Vec<Uuid>,
    pacer: Pacer,
}

#[derive(Debug, Default)]
struct OutboxEntry {
    /// Listed in the inventory and not acknowledged yet: no output is sent.
    awaits_offset: bool,
    /// The server does not know the command or has ended it: only the result is sent.
    is_output_unwanted: bool,
    is_queued: bool,
    /// Its `response` has been sent in this session.
    is_reported: bool,
    reader: Option<OutputReader>,
    sent_bytes: u64,
    acked_bytes: u64,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(pacer: Pacer) -> Self {
        let (entries, queue) = (BTreeMap::new(), VecDeque::new());
        Self { entries, queue, blocked: Vec::new(), pacer }
    }

    /// Sends no output of a listed command until the server has acknowledged its offset.
    pub fn await_offset(&mut self, command_id: Uuid) {
        self.entries.entry(command_id).or_default().awaits_offset = true;
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
            self.pacer.acknowledged(command_id, credible, Instant::now());
            entry.acked_bytes = entry.acked_bytes.max(credible);
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
        let allowance = pacer.allowance(Instant::now());
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
