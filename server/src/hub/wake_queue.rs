//! Agents that may have deliverable commands.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::AgentId;

/// A set, so that repeated wake-ups of one agent count once.
#[derive(Debug, Default)]
pub struct WakeQueue {
    agents: Mutex<HashSet<AgentId>>,
    notify: Notify,
}

impl WakeQueue {
    pub fn add(&self, agent_id: AgentId) {
        let is_new = self.agents.lock().unwrap_or_else(PoisonError::into_inner).insert(agent_id);
        if is_new {
            self.notify.notify_one();
        }
    }

    /// Number of agents.
    pub fn len(&self) -> usize {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for at least one agent, and takes at most `limit`.
    pub async fn take(&self, limit: usize) -> Vec<AgentId> {
        loop {
            {
                let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
                let taken: Vec<_> = agents.iter().copied().take(limit).collect();
                for agent_id in &taken {
                    agents.remove(agent_id);
                }
                if !taken.is_empty() {
                    return taken;
                }
            }
            self.notify.notified().await;
        }
    }
}
