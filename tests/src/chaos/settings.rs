//! What a run is made with.

use super::plan::{FaultKind, Shape};

/// What the server keeps its data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file, on a disk that can lose power.
    Sqlite,
    /// A cluster of the run's own, which can go away and come back.
    Postgres,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub store: Store,
    pub shape: Shape,
    /// A promise that the server is made to break.
    pub server_fault: Option<String>,
    /// A promise that the agents are made to break.
    pub agent_fault: Option<String>,
}

impl Settings {
    /// A run that takes well under a minute.
    pub fn short(seed: u64, store: Store) -> Self {
        let shape = Shape {
            hosts: 3,
            submissions: 120,
            planned_faults: 18,
            faults: FaultKind::ALL.into(),
            stay_ms: 0..400,
            backlog: 20,
        };
        Self { seed, store, shape, server_fault: None, agent_fault: None }
    }

    /// A run as a part of a soak.
    pub fn long(seed: u64, store: Store, hosts: usize) -> Self {
        let shape = Shape {
            hosts,
            submissions: 220 * hosts,
            planned_faults: 25 * hosts,
            backlog: 12 * hosts,
            ..Self::short(seed, store).shape
        };
        Self { shape, ..Self::short(seed, store) }
    }
}
