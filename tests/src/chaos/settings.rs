//! The settings of a run.

use super::plan::{FaultKind, Shape};

/// Where the server stores its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file, on a disk that can lose power.
    Sqlite,
    /// A PostgreSQL cluster for this run, which can stop and restart.
    Postgres,
}

/// One run.
#[derive(Debug, Clone)]
pub struct ChaosSettings {
    pub seed: u64,
    pub store: Store,
    pub shape: Shape,
    /// A guarantee that the server is made to break.
    pub server_fault: Option<String>,
    /// A guarantee that the agents are made to break.
    pub agent_fault: Option<String>,
}

impl ChaosSettings {
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

    /// One run of a soak.
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
