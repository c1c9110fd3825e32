//! Publishes changed commands to viewers, and reconciles the jobs that they belong to.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::domain::ids::JobId;
use crate::hub::{ChangedIds, Hub};
use crate::services::commands::change_publisher::ChangePublisher;
use crate::services::commands::job_reconciler::{DueJobs, JobReconciler};
use crate::store::StoreError;
use muster_protocol::error_chain;

/// Commands that are read together.
const BATCH: usize = 500;
/// Pause between two rounds, so that repeated changes are read once.
const PAUSE: Duration = Duration::from_millis(20);
/// Interval between reconciliations of all open jobs: a commit without an answer may have changed
/// commands without a notification.
const RECONCILE_ALL_EVERY: Duration = Duration::from_secs(30);
/// Pause after a database error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped. After an error it requeues the ids, so no change is lost.
pub async fn run(publisher: ChangePublisher, reconciler: JobReconciler, hub: Arc<Hub>) {
    let mut due = DueJobs::new();
    let mut ticks = interval_at(Instant::now() + RECONCILE_ALL_EVERY, RECONCILE_ALL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changed = tokio::select! {
            changed = hub.next_changes() => changed,
            jobs = due_jobs(&reconciler, &due) => ChangedIds { jobs, ..ChangedIds::default() },
            _ = ticks.tick() => ChangedIds::default(),
        };
        match process(&publisher, &reconciler, &changed).await {
            Ok(next) => {
                if is_all(&changed) {
                    due.clear();
                }
                due.retain(|id, _| !changed.jobs.contains(id));
                due.extend(next);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to process changes; retrying");
                hub.requeue_changes(changed);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Waits until jobs are due, and returns them.
async fn due_jobs(reconciler: &JobReconciler, due: &DueJobs) -> HashSet<JobId> {
    let Some(first) = due.values().min() else { return std::future::pending().await };
    tokio::time::sleep(Duration::from_millis(reconciler.ms_until(*first))).await;
    due.iter().filter(|(_, at)| reconciler.ms_until(**at) == 0).map(|(id, _)| *id).collect()
}

/// True if all open jobs must be reconciled: ids were dropped, or the interval passed.
fn is_all(changed: &ChangedIds) -> bool {
    changed.has_overflowed || *changed == ChangedIds::default()
}

async fn process(
    publisher: &ChangePublisher,
    reconciler: &JobReconciler,
    changed: &ChangedIds,
) -> Result<DueJobs, StoreError> {
    let mut jobs: HashSet<JobId> = changed.jobs.clone();
    let commands: Vec<_> = changed.commands.iter().copied().collect();
    if changed.has_overflowed {
        publisher.publish(&[], false).await?;
    }
    for commands in commands.chunks(BATCH) {
        jobs.extend(publisher.publish(commands, true).await?);
    }
    let jobs: Vec<_> = jobs.into_iter().collect();
    let due = if is_all(changed) {
        reconciler.reconcile_all().await?
    } else {
        reconciler.reconcile(&jobs).await?
    };
    // After the reconciliation, so that viewers see the end of finished jobs.
    publisher.publish_jobs(jobs);
    Ok(due)
}
