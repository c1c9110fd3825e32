//! Where changes of commands are published to whoever looks on at this moment.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, JobId, TenantId};

/// Rounds that a reader may lag behind; one that lags further is told that it missed some.
const ROUNDS: usize = 256;

/// A command that changed, as it stood when it was read. Several changes may have become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandChange {
    pub id: CommandId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub job_id: Option<JobId>,
    pub command: String,
    /// Of an `execute`.
    pub script: Option<String>,
    pub state: CommandState,
}

/// What changed in one round, of all tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandChanges {
    pub commands: Vec<CommandChange>,
    /// Jobs that may have changed.
    pub jobs: Vec<JobId>,
    /// False if changes were too many to be noted: whoever shows commands reads them again.
    pub is_complete: bool,
}

/// The point of publication.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Arc<CommandChanges>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(ROUNDS))
    }
}

impl Events {
    /// Everything that is published from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<CommandChanges>> {
        self.0.subscribe()
    }

    /// True if anybody reads what is published.
    pub fn is_wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Hands on which jobs may have changed.
    pub fn publish_jobs(&self, jobs: Vec<JobId>) {
        if !jobs.is_empty() {
            self.publish(CommandChanges { commands: Vec::new(), jobs, is_complete: true });
        }
    }

    /// Hands changes to whoever reads them.
    pub fn publish(&self, changes: CommandChanges) {
        // Nobody reads: nobody misses it.
        let _ = self.0.send(Arc::new(changes));
    }
}
