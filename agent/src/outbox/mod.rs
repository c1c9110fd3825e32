//! What still has to be told in this session: output by offset, then the result.
//!
//! Made anew with every session; the files and the ledger are what lasts. It is asked for one
//! frame at a time, so that nothing piles up, and gives every command its turn.

pub mod reader;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use muster_protocol::frame::AgentFrame;
use muster_protocol::limits::OUTPUT_WINDOW_BYTES;
use uuid::Uuid;

use crate::custody::Custody;
use crate::ledger::Phase;
use crate::link::Outgoing;
use reader::Reader;

/// The outbox of one session.
#[derive(Debug, Default)]
pub struct Outbox {
    deliveries: BTreeMap<Uuid, Delivery>,
    turns: VecDeque<Uuid>,
}

#[derive(Debug, Default)]
struct Delivery {
    /// Listed in the inventory and not answered yet: nothing of its output is sent.
    is_held: bool,
    /// The server knows nothing of the command, or has ended it: only the result is told.
    is_unwanted: bool,
    is_queued: bool,
    /// Its `response` has been sent in this session.
    is_reported: bool,
    reader: Option<Reader>,
    sent_bytes: u64,
    acked_bytes: u64,
}

impl Outbox {
    /// Holds a listed command's output back until the server has named its offset.
    pub fn hold(&mut self, command_id: Uuid) {
        self.deliveries.entry(command_id).or_default().is_held = true;
    }

    /// There may be something to send of this command.
    pub fn wake(&mut self, command_id: Uuid) {
        let delivery = self.deliveries.entry(command_id).or_default();
        if !delivery.is_queued {
            delivery.is_queued = true;
            self.turns.push_back(command_id);
        }
    }

    /// Sends the result once more, to a server that asks for it again.
    pub fn repeat(&mut self, command_id: Uuid) {
        self.deliveries.entry(command_id).or_default().is_reported = false;
        self.wake(command_id);
    }

    /// The server has committed output up to here. Ends the holding back, if there was any.
    pub fn acknowledged(&mut self, command_id: Uuid, offset_bytes: Option<u64>) {
        let Some(delivery) = self.deliveries.get_mut(&command_id) else { return };
        let offset_bytes = offset_bytes.unwrap_or(delivery.acked_bytes);
        if delivery.is_held {
            delivery.is_held = false;
            delivery.reader = None;
            delivery.sent_bytes = offset_bytes;
            delivery.acked_bytes = offset_bytes;
        } else {
            // A server can't commit what was not sent; a claim beyond that opens no wider window.
            let credible = offset_bytes.min(delivery.sent_bytes);
            delivery.acked_bytes = delivery.acked_bytes.max(credible);
        }
        self.wake(command_id);
    }

    /// The server wants no output of this command, which still runs here.
    pub fn silence(&mut self, command_id: Uuid) {
        let delivery = self.deliveries.entry(command_id).or_default();
        delivery.is_unwanted = true;
        delivery.is_held = false;
        delivery.reader = None;
    }

    /// Nothing more of this command is wanted.
    pub fn forget(&mut self, command_id: Uuid) {
        self.deliveries.remove(&command_id);
    }

    /// Has another look at everything: what could not be read before may be readable now.
    pub fn wake_all(&mut self) {
        let all: Vec<_> = self.deliveries.keys().copied().collect();
        for command_id in all {
            self.wake(command_id);
        }
    }

    /// True if [`Outbox::next_frame`] is worth asking.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The next frame of whoever's turn it is; `None` once nobody has anything to send.
    pub fn next_frame(&mut self, custody: &Custody) -> Option<Outgoing> {
        while let Some(command_id) = self.turns.pop_front() {
            let Some(delivery) = self.deliveries.get_mut(&command_id) else { continue };
            delivery.is_queued = false;
            if let Some(frame) = delivery.next_frame(command_id, custody) {
                self.wake(command_id);
                return Some(frame);
            }
        }
        None
    }
}

/// What there is to send of a command's output.
enum Output {
    Frame(Vec<u8>),
    /// Nothing, until the server has acknowledged more.
    Full,
    AllSent,
}

impl Delivery {
    fn next_frame(&mut self, command_id: Uuid, custody: &Custody) -> Option<Outgoing> {
        let phase = custody.ledger().entry(command_id).map(|entry| entry.phase);
        if phase.is_none() {
            // Receipted: the answer is repeated if it was asked for, the output is gone.
            return self.report(command_id, custody);
        }
        // Asked first: output that comes after the look at the phase is found at the next turn.
        let is_settled = phase == Some(Phase::Settled);
        if self.is_held {
            let has_output = custody.state().job(command_id).output().exists();
            return if is_settled && !has_output { self.report(command_id, custody) } else { None };
        }
        match self.output(command_id, custody) {
            Ok(Output::Frame(frame)) => Some(Outgoing::Binary(frame)),
            Ok(Output::AllSent) if is_settled => self.report(command_id, custody),
            Ok(Output::AllSent | Output::Full) => None,
            Err(error) => {
                // Not reported either: its receipt would be the end of what was not sent.
                tracing::error!(%command_id, %error, "output can't be read now");
                self.reader = None;
                None
            }
        }
    }

    fn output(&mut self, command_id: Uuid, custody: &Custody) -> io::Result<Output> {
        if self.is_unwanted || self.is_reported {
            return Ok(Output::AllSent);
        }
        let room = OUTPUT_WINDOW_BYTES.saturating_sub(self.sent_bytes - self.acked_bytes);
        if room == 0 {
            return Ok(Output::Full);
        }
        if self.reader.is_none() {
            let path = custody.state().job(command_id).output();
            match Reader::open_at(&path, self.sent_bytes) {
                Ok(reader) if reader.offset_bytes() == self.sent_bytes => {
                    self.reader = Some(reader);
                }
                // The server holds more than there is here: what stood there before a loss of power.
                Ok(_) => return Ok(Output::AllSent),
                // The command is not that far, or has never run.
                Err(error) if is_absent(&error) => {
                    return Ok(Output::AllSent);
                }
                Err(error) => return Err(error),
            }
        }
        let Some(reader) = self.reader.as_mut() else { return Ok(Output::AllSent) };
        let Some(frame) = reader.next_frame(command_id, room)? else { return Ok(Output::AllSent) };
        self.sent_bytes = reader.offset_bytes();
        Ok(Output::Frame(frame))
    }

    fn report(&mut self, command_id: Uuid, custody: &Custody) -> Option<Outgoing> {
        if self.is_reported {
            return None;
        }
        let response = custody.ledger().response(command_id)?;
        self.is_reported = true;
        self.reader = None;
        encode(&AgentFrame::Response(response))
    }
}

/// A frame as text. `None` never happens: frames are plain data.
pub fn encode(frame: &AgentFrame) -> Option<Outgoing> {
    serde_json::to_string(frame).map(Outgoing::Text).ok()
}

/// True if there is no such file, nor a folder that it could be in.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
