//! What may be asked of the writer, by numbers instead of ids.

use muster_protocol::frame::{InventoryState, Outcome};
use proptest::prelude::*;

/// Agents of a case.
pub const AGENTS: usize = 2;
/// Commands of a case; whose they are is decided when they are submitted.
pub const COMMANDS: usize = 5;

/// One thing that is asked.
#[derive(Debug, Clone)]
pub enum Step {
    Submit { command: usize, agent: usize, deliver: Option<Age>, key: Option<(u8, u8)> },
    Deliver { session: Session, commands: Vec<usize> },
    Accept { session: Session, count: u64 },
    Start { session: Session, command: usize },
    Output { age: Age, command: usize, offset_kind: OffsetKind, length: u64 },
    Settle { session: Session, command: usize, outcome: Outcome },
    Reconcile { session: Session, listed: Vec<(usize, InventoryState)> },
    Open { agent: usize, ledger: u128, count: u64 },
    Close { session: Session },
    Cancel { command: usize },
    Refuse { commands: Vec<usize> },
}

impl Step {
    /// The position of this kind of operation in the writer's transactions.
    pub fn rank(&self) -> usize {
        match self {
            Self::Cancel { .. } | Self::Refuse { .. } => 0,
            Self::Open { .. } => 1,
            Self::Reconcile { .. } => 2,
            Self::Submit { .. } => 3,
            Self::Deliver { .. } => 4,
            Self::Accept { .. } | Self::Start { .. } => 5,
            Self::Output { .. } => 6,
            Self::Settle { .. } => 7,
            Self::Close { .. } => 8,
        }
    }
}

/// A session that sends something.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    pub agent: usize,
    pub age: Age,
}

/// Which of an agent's sessions, by the state before the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Replaced,
    Current,
    /// The one that an opening in the same batch would begin.
    Next,
}

/// Where a chunk of output starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetKind {
    /// Behind everything that was sent.
    Behind,
    /// With a byte missing before it.
    Beyond,
    /// At the beginning, again.
    Repeated,
}

fn age() -> impl Strategy<Value = Age> {
    prop_oneof![8 => Just(Age::Current), 1 => Just(Age::Replaced), 1 => Just(Age::Next)]
}

fn session() -> impl Strategy<Value = Session> {
    (0..AGENTS, age()).prop_map(|(agent, age)| Session { agent, age })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    use Outcome::{Cancelled, Expired, Failed, Lost, Rejected, Succeeded, TimedOut};
    prop::sample::select(vec![Succeeded, Failed, TimedOut, Cancelled, Expired, Rejected, Lost])
}

fn listed() -> impl Strategy<Value = Vec<(usize, InventoryState)>> {
    use InventoryState::{Accepted, Running, Settled};
    let state = prop::sample::select(vec![Accepted, Running, Settled]);
    prop::collection::vec((0..COMMANDS, state), 0..4)
}

pub fn step() -> impl Strategy<Value = Step> {
    let command = || 0..COMMANDS;
    let offset_kind = prop_oneof![6 => Just(OffsetKind::Behind), 1 => Just(OffsetKind::Beyond), 1 => Just(OffsetKind::Repeated)];
    let key = prop::option::weighted(0.3, (0..2_u8, 0..2_u8));
    prop_oneof![
        6 => (command(), 0..AGENTS, prop::option::weighted(0.6, age()), key)
            .prop_map(|(command, agent, deliver, key)| Step::Submit { command, agent, deliver, key }),
        3 => (session(), prop::collection::vec(command(), 1..4))
            .prop_map(|(session, commands)| Step::Deliver { session, commands }),
        1 => (session(), 0..4_u64).prop_map(|(session, count)| Step::Accept { session, count }),
        4 => (session(), command()).prop_map(|(session, command)| Step::Start { session, command }),
        3 => (age(), command(), offset_kind, 1..9_u64)
            .prop_map(|(age, command, offset_kind, length)| Step::Output { age, command, offset_kind, length }),
        4 => (session(), command(), outcome())
            .prop_map(|(session, command, outcome)| Step::Settle { session, command, outcome }),
        3 => (session(), listed())
            .prop_map(|(session, listed)| Step::Reconcile { session, listed }),
        2 => (0..AGENTS, 1..3_u128, 0..4_u64)
            .prop_map(|(agent, ledger, count)| Step::Open { agent, ledger, count }),
        1 => session().prop_map(|session| Step::Close { session }),
        2 => command().prop_map(|command| Step::Cancel { command }),
        1 => prop::collection::vec(command(), 1..3)
            .prop_map(|commands| Step::Refuse { commands }),
    ]
}
