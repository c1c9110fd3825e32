//! Reads changed commands and publishes them to live viewers.

use std::collections::HashSet;
use std::sync::Arc;

use muster_protocol::commands::step::title;
use serde_json::Value;

use crate::domain::ids::{CommandId, JobId};
use crate::hub::{CommandChange, CommandChanges, Hub};
use crate::store::queries::ChangedCommand;
use crate::store::{Store, StoreError};

/// Publishes changes of commands and jobs.
#[derive(Clone, Debug)]
pub struct ChangePublisher {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
}

impl ChangePublisher {
    /// Publishes some changed commands if there are viewers, and returns the jobs that they belong
    /// to. `is_complete` is false if other commands changed too and their ids are lost.
    ///
    /// # Errors
    /// [`StoreError`]; in that case no change is published.
    pub async fn publish(
        &self,
        ids: &[CommandId],
        is_complete: bool,
    ) -> Result<HashSet<JobId>, StoreError> {
        let system = self.store.system();
        if !self.hub.event_feed.has_subscribers() {
            return Ok(match ids {
                [] => HashSet::new(),
                ids => system.jobs_of(ids).await?.into_iter().collect(),
            });
        }
        let rows = match ids {
            [] => Vec::new(),
            ids => system.changed_commands(ids).await?,
        };
        let jobs = rows.iter().filter_map(|row| row.job_id).collect();
        let commands: Vec<_> = rows.into_iter().map(CommandChange::from).collect();
        if !commands.is_empty() || !is_complete {
            self.hub.event_feed.publish(CommandChanges { commands, jobs: Vec::new(), is_complete });
        }
        Ok(jobs)
    }

    /// Publishes the ids of jobs that may have changed.
    pub fn publish_jobs(&self, jobs: Vec<JobId>) {
        self.hub.event_feed.publish_jobs(jobs);
    }
}

/// The script in the data of an `execute`, or the title of its steps.
fn script_of(data: &Value) -> Option<String> {
    let script = |data: &Value| data.get("script").and_then(Value::as_str).map(str::to_owned);
    let Some(steps) = data.get("steps").and_then(Value::as_array) else { return script(data) };
    let scripts: Vec<_> = steps.iter().map(script).collect();
    Some(title(scripts.iter().map(Option::as_deref)))
}

impl From<ChangedCommand> for CommandChange {
    fn from(row: ChangedCommand) -> Self {
        let data: Value = serde_json::from_str(&row.data).unwrap_or_default();
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            agent_id: row.agent_id,
            job_id: row.job_id,
            script: script_of(&data),
            command: row.command,
            state: row.state,
        }
    }
}
