//! Takes what changed, tells whoever looks on, and has the jobs kept that it is part of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::domain::ids::JobId;
use crate::hub::{Changed, Hub};
use crate::services::changes::Changes;
use crate::services::error::chain;
use crate::services::keeping::{Due, Keeping};
use crate::store::StoreError;

/// Commands that are read together.
const ROUND: usize = 500;
/// Between two rounds: what changes meanwhile is looked at once, however often it changes.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at every job that is not finished: a change whose commit was not answered,
/// though it stands, was noted by nobody.
const LOOK_AT_ALL: Duration = Duration::from_secs(30);
/// Between two tries when the database does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is dropped. An error gives back what was taken: no change is forgotten.
pub async fn run(changes: Changes, keeping: Keeping, hub: Arc<Hub>) {
    let mut due = Due::new();
    let mut turns = tokio::time::interval(LOOK_AT_ALL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (changed, looked) = tokio::select! {
            changed = hub.changes() => {
                let looked = look(&changes, &keeping, &changed).await;
                (changed, looked)
            }
            () = wait_for(&keeping, &due) => {
                let jobs = due.iter().filter(|(_, at)| keeping.ms_until(**at) == 0);
                let jobs = jobs.map(|(id, _)| *id).collect();
                let changed = Changed { jobs, ..Changed::default() };
                let looked = look(&changes, &keeping, &changed).await;
                (changed, looked)
            }
            _ = turns.tick() => (Changed::default(), keeping.keep_all().await),
        };
        match looked {
            Ok(next) => {
                due.retain(|id, at| !changed.jobs.contains(id) && keeping.ms_until(*at) > 0);
                due.extend(next);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "failed to look at what changed; trying again");
                hub.changed_again(changed);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Waits until a job is to be looked at though nothing changed.
async fn wait_for(keeping: &Keeping, due: &Due) {
    match due.values().min() {
        Some(at) => tokio::time::sleep(Duration::from_millis(keeping.ms_until(*at))).await,
        None => std::future::pending().await,
    }
}

async fn look(changes: &Changes, keeping: &Keeping, changed: &Changed) -> Result<Due, StoreError> {
    let mut jobs: HashSet<JobId> = changed.jobs.clone();
    let commands: Vec<_> = changed.commands.iter().copied().collect();
    if changed.has_overflowed {
        changes.publish(&[], false).await?;
    }
    for commands in commands.chunks(ROUND) {
        jobs.extend(changes.publish(commands, true).await?);
    }
    let jobs: Vec<_> = jobs.into_iter().collect();
    let due = if changed.has_overflowed {
        keeping.keep_all().await?
    } else {
        keeping.keep(&jobs).await?
    };
    // After the commit of what was kept: of a job that is over, its end is told.
    changes.publish_jobs(jobs);
    Ok(due)
}
