//! The server: every state change follows the real transition table.

use muster_protocol::frame::{LedgerComparison, compare_ledger};
use muster_server::domain::commands::command_state::{
    CommandEvent, CommandState, CommandTransition, EndReason, step,
};

use super::world::{Down, Link, Listed, Moves, Sent, Session, Up, World};

impl World {
    pub fn server_moves(&self, moves: &mut Moves<'_>) {
        let server = &self.server;
        if server.session == Some(Session::Ready)
            && server.state == CommandState::Queued
            && !server.is_cancel_requested
        {
            moves.may("deliver", |world| {
                world.apply(CommandEvent::Delivered);
                world.send_to_agent(Down::Command);
            });
            moves.may_fail("deliver, and end before the frame leaves", |world| {
                world.apply(CommandEvent::Delivered);
                world.server_ends();
            });
        }
        if !server.is_cancel_requested && !server.state.is_terminal() {
            moves.may("cancel", |world| {
                if !world.apply(CommandEvent::CancelRequested) {
                    world.server.is_cancel_requested = true;
                    if world.server.session == Some(Session::Ready) {
                        world.send_to_agent(Down::Cancel);
                    }
                }
            });
        }
        if server.state == CommandState::Queued {
            moves.may_fail("expire", |world| {
                world.apply(CommandEvent::Ended(EndReason::ExpiredInQueue));
            });
        }
        if server.session.is_some() {
            moves.may_fail("the server restarts", Self::server_ends);
        } else if !server.state.is_terminal() {
            moves.may_fail("the agent is disconnected for too long", |world| {
                world.run.was_away_too_long = true;
                world.apply(CommandEvent::Ended(EndReason::AgentAway));
            });
        }
    }

    fn server_ends(&mut self) {
        self.server.session = None;
        self.cut();
    }

    /// Applies the transition for an event; true if there is one.
    fn apply(&mut self, event: CommandEvent) -> bool {
        let CommandTransition::To(next) = step(self.server.state, event) else { return false };
        self.server.state = next;
        self.server.reason = match event {
            CommandEvent::Ended(reason) => Some(reason),
            CommandEvent::CancelRequested => Some(EndReason::CancelledInQueue),
            CommandEvent::Unlisted if next == CommandState::Lost => {
                Some(EndReason::MissingFromInventory)
            }
            _ => None,
        };
        true
    }

    fn send_to_agent(&mut self, frame: Down) {
        // A closed link delivers nothing.
        if self.agent.link.is_some_and(|link| link.epoch == self.server.epoch) {
            self.down.push(Sent { epoch: self.server.epoch, frame });
        }
    }

    /// A session starts: a new epoch, and a comparison of the ledger.
    pub fn connect(&mut self) {
        self.server.epoch += 1;
        let remembered = (&self.server.ledger_id, u64::from(self.server.acceptance_count));
        let presented = (&self.ledger.id, u64::from(self.ledger.acceptance_count));
        if compare_ledger(Some(remembered), presented) == LedgerComparison::Replaced {
            self.apply(CommandEvent::Ended(EndReason::LedgerReplaced));
        }
        self.server.ledger_id = self.ledger.id;
        self.server.acceptance_count = self.ledger.acceptance_count;
        self.server.session = Some(Session::Open);
        let epoch = self.server.epoch;
        self.agent.link = Some(Link {
            epoch,
            may_send: false,
            sent_bytes: 0,
            has_told_start: false,
            has_told_result: false,
        });
        self.up.push(Sent { epoch, frame: Up::Inventory(self.listed()) });
    }

    pub fn server_takes(&mut self, sent: Sent<Up>) {
        // Fencing: a closed session writes nothing.
        if sent.epoch != self.server.epoch {
            return;
        }
        let Some(session) = self.server.session else { return };
        match (sent.frame, session) {
            (Up::Inventory(listed), Session::Open) => self.reconcile(listed),
            // A session has one inventory; a second one closes it.
            (Up::Inventory(_), Session::Ready) => self.server_ends(),
            (Up::Result(outcome), _) => {
                if self.apply(CommandEvent::Reported(outcome)) {
                    self.server.report = Some((outcome, false));
                }
                self.server.report.get_or_insert((outcome, true));
                self.send_to_agent(Down::Receipt);
            }
            // A command that the session does not own yet.
            (_, Session::Open) => {}
            (Up::Accepted { acceptance_count }, Session::Ready) => {
                let known = &mut self.server.acceptance_count;
                *known = acceptance_count.max(*known);
            }
            (Up::Started, Session::Ready) => {
                self.apply(CommandEvent::Started);
            }
            (Up::Output { offset }, Session::Ready) => self.append(offset),
        }
    }

    fn append(&mut self, offset: u8) {
        let server = &mut self.server;
        if server.report.is_some() {
            return;
        }
        match offset.cmp(&server.committed_bytes) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal if server.state != CommandState::Delivered => {
                server.committed_bytes += 1;
            }
            // A gap, or output before the start.
            _ => self.server_ends(),
        }
    }

    fn reconcile(&mut self, listed: Option<Listed>) {
        self.server.session = Some(Session::Ready);
        let Some(listed) = listed else {
            let was_sent = !self.server.state.is_terminal();
            if was_sent && self.apply(CommandEvent::Unlisted) && self.server.is_cancel_requested {
                // It never arrived, and is not wanted any more.
                self.apply(CommandEvent::CancelRequested);
            }
            return;
        };
        if self.server.report.is_some() {
            return self.send_to_agent(Down::Receipt);
        }
        self.apply(match listed {
            Listed::Running => CommandEvent::Started,
            Listed::Accepted | Listed::Settled => CommandEvent::ListedAccepted,
        });
        self.send_to_agent(Down::SendFrom(self.server.committed_bytes));
        if self.server.is_cancel_requested {
            self.send_to_agent(Down::Cancel);
        }
    }
}
