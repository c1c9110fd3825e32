//! Takes what changed, tells whoever looks on, and has the jobs kept that it is part of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::domain::ids::JobId;
use crate::hub::{Changed, Hub};
use crate::services::commands::changes::Changes;
use crate::services::commands::job_reconciler::{DueJobs, JobReconciler};
use crate::services::error::chain;
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
pub async fn run(changes: Changes, keeping: JobReconciler, hub: Arc<Hub>) {
    let mut due = DueJobs::new();
    let mut turns = interval_at(Instant::now() + LOOK_AT_ALL, LOOK_AT_ALL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changed = tokio::select! {
            changed = hub.changes() => changed,
            jobs = due_now(&keeping, &due) => Changed { jobs, ..Changed::default() },
            // Nothing changed that anybody noted: everything is looked at.
            _ = turns.tick() => Changed::default(),
        };
        match look(&changes, &keeping, &changed).await {
            Ok(next) => {
                if is_all(&changed) {
                    due.clear();
                }
                due.retain(|id, _| !changed.jobs.contains(id));
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

/// Waits until jobs are to be looked at though nothing changed; which.
async fn due_now(keeping: &JobReconciler, due: &DueJobs) -> HashSet<JobId> {
    let Some(first) = due.values().min() else { return std::future::pending().await };
    tokio::time::sleep(Duration::from_millis(keeping.ms_until(*first))).await;
    due.iter().filter(|(_, at)| keeping.ms_until(**at) == 0).map(|(id, _)| *id).collect()
}

/// True if every job that is not finished is to be looked at.
fn is_all(changed: &Changed) -> bool {
    changed.has_overflowed || *changed == Changed::default()
}

async fn look(
    changes: &Changes,
    keeping: &JobReconciler,
    changed: &Changed,
) -> Result<DueJobs, StoreError> {
    let mut jobs: HashSet<JobId> = changed.jobs.clone();
    let commands: Vec<_> = changed.commands.iter().copied().collect();
    if changed.has_overflowed {
        changes.publish(&[], false).await?;
    }
    for commands in commands.chunks(ROUND) {
        jobs.extend(changes.publish(commands, true).await?);
    }
    let jobs: Vec<_> = jobs.into_iter().collect();
    let due = if is_all(changed) {
        keeping.reconcile_all().await?
    } else {
        keeping.reconcile(&jobs).await?
    };
    // After the commit of what was kept: of a job that is over, its end is told.
    changes.publish_jobs(jobs);
    Ok(due)
}
