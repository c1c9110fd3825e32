//! The state of the model, and its possible moves.

use std::fmt;

use muster_protocol::frame::Outcome;
use muster_server::domain::commands::command_state::{CommandState, EndReason};

/// One state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub network: Network,
    pub faults: Faults,
    pub server: Server,
    pub agent: Agent,
    pub ledger: Ledger,
    pub run: Run,
    /// Frames to the server; those of a closed link may still arrive.
    pub up: Vec<Sent<Up>>,
    /// Frames to the agent.
    pub down: Vec<Sent<Down>>,
}

/// How the network delivers frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// Frames of one link arrive in order until it is cut; frames of different links may be
    /// reordered.
    Links,
    /// Each frame may be lost, duplicated or reordered.
    Anything,
}

/// The faults that may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    pub left: u8,
    pub may_lose_ledger: bool,
}

/// The server's committed state, and its session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    pub state: CommandState,
    pub reason: Option<EndReason>,
    pub is_cancel_requested: bool,
    /// The report, and whether it was too late.
    pub report: Option<(Outcome, bool)>,
    pub committed_bytes: u8,
    pub epoch: u8,
    pub ledger_id: u8,
    pub acceptance_count: u8,
    /// The session of the newest epoch; lost when the server restarts.
    pub session: Option<Session>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Session {
    /// Waits for the inventory.
    Open,
    Ready,
}

/// What the agent's process knows about its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Agent {
    pub link: Option<Link>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    pub epoch: u8,
    /// Output may be sent: the command is new, or the server has confirmed the offset.
    pub may_send: bool,
    pub sent_bytes: u8,
    pub has_told_start: bool,
    pub has_told_result: bool,
}

/// The ledger's files for one command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    pub id: u8,
    pub acceptance_count: u8,
    pub has_command: bool,
    pub has_cancel: bool,
    pub has_started: bool,
    pub settlement: Option<Outcome>,
    /// The server has everything: output is deleted, the result is kept.
    pub is_receipted: bool,
}

/// What actually happened on the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    pub shim: Option<Shim>,
    pub starts: u8,
    pub produced_bytes: u8,
    pub was_shim_killed: bool,
    pub was_ledger_lost: bool,
    pub was_away_too_long: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shim {
    /// Holds the lock.
    Begun,
    /// Has recorded that it starts the child.
    Committed,
    /// The child runs.
    Started,
}

/// A frame in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sent<T> {
    pub epoch: u8,
    pub frame: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Up {
    Inventory(Option<Listed>),
    Accepted { acceptance_count: u8 },
    Started,
    Output { offset: u8 },
    Result(Outcome),
}

/// The command's state in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listed {
    Accepted,
    Running,
    Settled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Down {
    Command,
    Cancel,
    SendFrom(u8),
    Receipt,
}

/// A move of the model.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub name: &'static str,
    pub is_fault: bool,
}

impl fmt::Debug for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Collects the possible moves.
pub struct Moves<'a> {
    pub from: &'a World,
    pub found: Vec<(Move, World)>,
}

impl Moves<'_> {
    pub fn may(&mut self, name: &'static str, change: impl FnOnce(&mut World)) {
        let mut after = self.from.clone();
        change(&mut after);
        self.found.push((Move { name, is_fault: false }, after));
    }

    pub fn may_fail(&mut self, name: &'static str, change: impl FnOnce(&mut World)) {
        if self.from.faults.left == 0 {
            return;
        }
        let mut after = self.from.clone();
        after.faults.left -= 1;
        change(&mut after);
        self.found.push((Move { name, is_fault: true }, after));
    }
}

impl World {
    pub fn new(network: Network, faults: Faults) -> Self {
        Self {
            network,
            faults,
            server: Server {
                state: CommandState::Queued,
                reason: None,
                is_cancel_requested: false,
                report: None,
                committed_bytes: 0,
                epoch: 0,
                ledger_id: 1,
                acceptance_count: 0,
                session: None,
            },
            agent: Agent { link: None },
            ledger: Ledger::new(1),
            run: Run {
                shim: None,
                starts: 0,
                produced_bytes: 0,
                was_shim_killed: false,
                was_ledger_lost: false,
                was_away_too_long: false,
            },
            up: Vec::new(),
            down: Vec::new(),
        }
    }

    pub fn moves(&self) -> Vec<(Move, Self)> {
        let mut moves = Moves { from: self, found: Vec::new() };
        self.frames_arrive(&mut moves);
        self.server_moves(&mut moves);
        self.host_moves(&mut moves);
        moves.found
    }

    /// The final state without further faults. An open link is cut once, so that frames lost by the
    /// network are sent again.
    pub fn without_faults(&self) -> Self {
        let mut world = self.clone();
        world.faults.left = 0;
        world.network = Network::Links;
        world.cut();
        world.up.clear();
        while let Some((_, next)) =
            world.moves().into_iter().find(|(made, _)| made.name != "cancel")
        {
            world = next;
        }
        world
    }

    /// The link ends; frames in flight to the agent are lost.
    pub fn cut(&mut self) {
        self.agent.link = None;
        self.down.clear();
    }

    fn frames_arrive(&self, moves: &mut Moves<'_>) {
        let is_first = |index: usize, epochs: &[u8]| !epochs[..index].contains(&epochs[index]);
        let up: Vec<u8> = self.up.iter().map(|sent| sent.epoch).collect();
        for index in 0..up.len() {
            if self.network == Network::Links {
                if is_first(index, &up) {
                    moves.may("a frame reaches the server", |world| {
                        let sent = world.up.remove(index);
                        world.server_takes(sent);
                    });
                }
                continue;
            }
            moves.may("some frame reaches the server", |world| {
                let sent = world.up.remove(index);
                world.server_takes(sent);
            });
            moves.may_fail("a frame reaches the server, and will again", |world| {
                world.server_takes(world.up[index]);
            });
            moves.may_fail("a frame to the server is lost", |world| {
                world.up.remove(index);
            });
        }
        for index in 0..self.down.len() {
            if self.network == Network::Links && index > 0 {
                break;
            }
            moves.may("a frame reaches the agent", |world| {
                let sent = world.down.remove(index);
                world.agent_takes(sent);
            });
            if self.network == Network::Anything {
                moves.may_fail("a frame reaches the agent, and will again", |world| {
                    world.agent_takes(world.down[index]);
                });
                moves.may_fail("a frame to the agent is lost", |world| {
                    world.down.remove(index);
                });
            }
        }
    }
}

impl Ledger {
    pub fn new(id: u8) -> Self {
        Self {
            id,
            acceptance_count: 0,
            has_command: false,
            has_cancel: false,
            has_started: false,
            settlement: None,
            is_receipted: false,
        }
    }
}
