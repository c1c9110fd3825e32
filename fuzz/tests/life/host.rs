//! The host: an agent that follows the real recovery rules, and a shim.

use muster_agent::executions::ledger::recovery::{
    OnDiskState, RecoveryAction, StartWindow, decide,
};
use muster_protocol::frame::Outcome;

use super::world::{Down, Ledger, Listed, Moves, Network, Sent, Shim, Up, World};

/// How much the child prints; small, so that the model stays small.
const OUTPUT_BYTES: u8 = 1;
/// How many frames the agent has in flight at most.
const FRAMES_UNDER_WAY: usize = 3;
/// A session ends when frames are reordered: without a limit there would be endless new sessions.
const LINKS_WITHOUT_ORDER: u8 = 2;

impl World {
    fn judged(&self) -> RecoveryAction {
        decide(OnDiskState {
            has_command: self.ledger.has_command,
            is_locked: self.run.shim.is_some(),
            has_started: self.ledger.has_started,
            has_settlement: self.ledger.settlement.is_some(),
            has_cancel: self.ledger.has_cancel,
            window: StartWindow::Open,
        })
    }

    /// The inventory's entry for the command.
    pub fn listed(&self) -> Option<Listed> {
        if self.ledger.is_receipted {
            return None;
        }
        match self.judged() {
            RecoveryAction::Discard => None,
            RecoveryAction::Report => Some(Listed::Settled),
            RecoveryAction::Reattach | RecoveryAction::Lose => Some(Listed::Running),
            RecoveryAction::Start | RecoveryAction::Cancel | RecoveryAction::Expire => {
                Some(Listed::Accepted)
            }
        }
    }

    pub fn host_moves(&self, moves: &mut Moves<'_>) {
        self.agent_sends(moves);
        match self.judged() {
            RecoveryAction::Start => {
                moves.may("the agent starts a shim", |world| world.run.shim = Some(Shim::Begun));
            }
            RecoveryAction::Cancel => {
                moves
                    .may("the agent cancels it before its start", |w| w.settle(Outcome::Cancelled));
            }
            RecoveryAction::Expire => {
                moves.may("the agent marks it expired", |w| w.settle(Outcome::Expired));
            }
            RecoveryAction::Lose => {
                moves.may("the agent marks it lost", |w| w.settle(Outcome::Lost))
            }
            RecoveryAction::Report | RecoveryAction::Reattach | RecoveryAction::Discard => {}
        }
        self.shim_moves(moves);
        if self.agent.link.is_some() {
            moves.may_fail("the link is cut, or the agent killed", Self::cut);
        } else if self.network == Network::Links || self.server.epoch < LINKS_WITHOUT_ORDER {
            moves.may("connect", Self::connect);
        }
        // The server can't miss a ledger that it does not know.
        let is_known = self.server.acceptance_count == self.ledger.acceptance_count;
        if self.faults.may_lose_ledger && self.ledger.has_command && is_known {
            moves.may_fail("the ledger is gone", |world| world.lose_ledger(2));
            moves.may_fail("the ledger is an older copy", |world| world.lose_ledger(1));
        }
    }

    fn lose_ledger(&mut self, id: u8) {
        self.ledger = Ledger::new(id);
        self.run.shim = None;
        self.run.produced_bytes = 0;
        self.run.was_ledger_lost = true;
        self.faults.may_lose_ledger = false;
        self.cut();
    }

    fn settle(&mut self, outcome: Outcome) {
        self.ledger.settlement = Some(outcome);
    }

    fn agent_sends(&self, moves: &mut Moves<'_>) {
        let Some(link) = self.agent.link.filter(|link| link.may_send) else { return };
        let is_open = !self.ledger.is_receipted;
        if self.up.len() >= FRAMES_UNDER_WAY {
            return;
        }
        let has_all = link.sent_bytes >= self.run.produced_bytes;
        if self.ledger.has_started && !link.has_told_start && is_open {
            moves.may("the agent reports the start", |world| {
                world.on_link(Up::Started, |link| link.has_told_start = true);
            });
        } else if !has_all && is_open {
            moves.may("the agent sends output", |world| {
                let frame = Up::Output { offset: link.sent_bytes };
                world.on_link(frame, |link| link.sent_bytes += 1);
            });
        } else if let Some(outcome) = self.ledger.settlement.filter(|_| !link.has_told_result) {
            moves.may("the agent reports", |world| {
                world.on_link(Up::Result(outcome), |link| link.has_told_result = true);
            });
        }
    }

    fn on_link(&mut self, frame: Up, note: impl FnOnce(&mut super::world::Link)) {
        if let Some(link) = &mut self.agent.link {
            note(link);
            self.up.push(Sent { epoch: link.epoch, frame });
        }
    }

    fn shim_moves(&self, moves: &mut Moves<'_>) {
        let Some(shim) = self.run.shim else { return };
        moves.may_fail("the shim is killed", |world| {
            world.run.shim = None;
            world.run.was_shim_killed = true;
        });
        let end = |world: &mut Self, outcome| {
            world.run.shim = None;
            world.settle(outcome);
        };
        match shim {
            Shim::Begun if self.ledger.has_cancel => {
                moves.may("the shim ends before the start", |world| end(world, Outcome::Cancelled));
            }
            Shim::Begun => moves.may("the shim commits to the start", |world| {
                world.run.shim = Some(Shim::Committed);
                world.ledger.has_started = true;
            }),
            Shim::Committed => moves.may("the child starts", |world| {
                world.run.shim = Some(Shim::Started);
                world.run.starts += 1;
            }),
            Shim::Started => {
                if self.run.produced_bytes < OUTPUT_BYTES {
                    moves.may("the child prints", |world| world.run.produced_bytes += 1);
                }
                moves.may("the child exits", |world| end(world, Outcome::Succeeded));
                if self.ledger.has_cancel {
                    moves.may("the shim ends the child", |w| end(w, Outcome::Cancelled));
                }
            }
        }
    }

    pub fn agent_takes(&mut self, sent: Sent<Down>) {
        // Frames are received on the open link.
        if self.agent.link.is_none_or(|link| link.epoch != sent.epoch) {
            return;
        }
        let is_known = self.ledger.has_command || self.ledger.settlement.is_some();
        match sent.frame {
            Down::Command if !is_known => {
                self.ledger.has_command = true;
                self.ledger.acceptance_count += 1;
                self.accepted();
            }
            Down::Command => {
                self.accepted();
                if let Some(link) = &mut self.agent.link {
                    (link.has_told_start, link.has_told_result) = (false, false);
                }
            }
            Down::Cancel => match self.judged() {
                RecoveryAction::Reattach => self.ledger.has_cancel = true,
                // Also for an unknown command: a tombstone prevents its start.
                RecoveryAction::Start | RecoveryAction::Discard => self.settle(Outcome::Cancelled),
                _ => {}
            },
            Down::SendFrom(offset) => {
                if let Some(link) = &mut self.agent.link {
                    (link.may_send, link.sent_bytes) = (true, offset);
                }
            }
            Down::Receipt => self.ledger.is_receipted |= self.ledger.settlement.is_some(),
        }
        // A tombstone is reported at once, like a new command.
        if !is_known && let Some(link) = &mut self.agent.link {
            link.may_send |= self.ledger.has_command || self.ledger.settlement.is_some();
        }
    }

    fn accepted(&mut self) {
        // This depends only on the ledger, which lost frames do not affect.
        if self.network == Network::Anything {
            return;
        }
        let acceptance_count = self.ledger.acceptance_count;
        self.on_link(Up::Accepted { acceptance_count }, |_| {});
    }
}
