//! Broadcasts changes of commands to the readers of this moment.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, JobId, TenantId};

/// Rounds that a reader may lag behind; a slower one gets an error.
const ROUNDS: usize = 256;

/// A changed command, with the state that was read. Several changes may be combined into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandChange {
    pub id: CommandId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub job_id: Option<JobId>,
    pub command: String,
    /// For an `execute`.
    pub script: Option<String>,
    pub state: CommandState,
}

/// The changes of one round, of all tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandChanges {
    pub commands: Vec<CommandChange>,
    /// Jobs that may have changed.
    pub jobs: Vec<JobId>,
    /// False if ids of other changed commands were dropped: viewers must read all commands again.
    pub is_complete: bool,
}

/// Sends each round of changes to all subscribers.
#[derive(Debug)]
pub struct EventFeed(broadcast::Sender<Arc<CommandChanges>>);

impl Default for EventFeed {
    fn default() -> Self {
        Self(broadcast::Sender::new(ROUNDS))
    }
}

impl EventFeed {
    /// Receives every round that is published from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<CommandChanges>> {
        self.0.subscribe()
    }

    /// True if there are subscribers.
    pub fn has_subscribers(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Publishes jobs that may have changed.
    pub fn publish_jobs(&self, jobs: Vec<JobId>) {
        if !jobs.is_empty() {
            self.publish(CommandChanges { commands: Vec::new(), jobs, is_complete: true });
        }
    }

    /// Publishes one round of changes.
    pub fn publish(&self, changes: CommandChanges) {
        // Fails only without subscribers.
        let _ = self.0.send(Arc::new(changes));
    }
}
