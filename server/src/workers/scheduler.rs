//! Periodic tasks, with `tokio-cron-scheduler` as a plain UTC ticker.

use std::future::Future;

use anyhow::Context as _;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::services::operations::maintenance::Maintenance;
use crate::store::StoreError;
use muster_protocol::error_chain;

// Cron expressions, not intervals: this scheduler never runs an interval job again if one run comes
// a whole interval late, for example after the machine was suspended.
const EVERY_SECOND: &str = "* * * * * *";
const EVERY_2_SECONDS: &str = "*/2 * * * * *";
const EVERY_5_SECONDS: &str = "*/5 * * * * *";
const EVERY_MINUTE: &str = "30 * * * * *";
const EVERY_5_MINUTES: &str = "0 */5 * * * *";

/// The running scheduler.
pub struct Scheduler(JobScheduler);

impl Scheduler {
    /// Starts every periodic task.
    pub async fn start(maintenance: &Maintenance) -> anyhow::Result<Self> {
        let scheduler = JobScheduler::new().await.context("failed to create the scheduler")?;
        add(&scheduler, "deadlines", EVERY_SECOND, maintenance, async |u| {
            u.sweep_deadlines().await
        })
        .await?;
        add(&scheduler, "heartbeats", EVERY_SECOND, maintenance, async |u| {
            u.store_heartbeats().await
        })
        .await?;
        add(&scheduler, "lost", EVERY_2_SECONDS, maintenance, async |u| u.sweep_lost().await)
            .await?;
        add(&scheduler, "history", EVERY_SECOND, maintenance, async |u| u.file_history().await)
            .await?;
        add(&scheduler, "expired keys", EVERY_SECOND, maintenance, async |u| {
            u.sweep_expired_keys();
            Ok(())
        })
        .await?;
        add(&scheduler, "key uses", EVERY_5_SECONDS, maintenance, async |u| {
            u.store_key_uses().await
        })
        .await?;
        add(&scheduler, "silence", EVERY_5_SECONDS, maintenance, async |u| u.sweep_silent().await)
            .await?;
        add(&scheduler, "checkpoint", EVERY_2_SECONDS, maintenance, async |u| u.checkpoint().await)
            .await?;
        add(&scheduler, "retention", EVERY_5_MINUTES, maintenance, async |u| u.drop_old().await)
            .await?;
        add(&scheduler, "expiring keys", EVERY_MINUTE, maintenance, async |u| {
            u.report_expiring_keys().await
        })
        .await?;
        add(&scheduler, "authority", EVERY_5_SECONDS, maintenance, async |u| {
            u.reload_authority().await
        })
        .await?;
        scheduler.start().await.context("failed to start the scheduler")?;
        Ok(Self(scheduler))
    }

    pub async fn stop(&mut self) {
        if let Err(error) = self.0.shutdown().await {
            tracing::debug!(%error, "failed to stop the scheduler");
        }
    }
}

async fn add<Work, Run>(
    scheduler: &JobScheduler,
    name: &'static str,
    when: &str,
    maintenance: &Maintenance,
    work: Work,
) -> anyhow::Result<()>
where
    Work: Fn(Maintenance) -> Run + Clone + Send + Sync + 'static,
    Run: Future<Output = Result<(), StoreError>> + Send,
{
    let maintenance = maintenance.clone();
    // One run at a time: a task that takes longer than its interval is not started twice.
    let running = std::sync::Arc::new(tokio::sync::Mutex::new(()));
    let job = Job::new_async(when, move |_, _| {
        let (maintenance, work, running) =
            (maintenance.clone(), work.clone(), std::sync::Arc::clone(&running));
        Box::pin(async move {
            let Ok(_running) = running.try_lock() else { return };
            if let Err(error) = work(maintenance).await {
                let error = error_chain(&error);
                tracing::warn!(
                    worker = name,
                    error,
                    "a periodic task failed; retrying at its next run"
                );
            }
        })
    })
    .with_context(|| format!("failed to create the periodic task {name}"))?;
    scheduler
        .add(job)
        .await
        .with_context(|| format!("failed to schedule the periodic task {name}"))?;
    Ok(())
}
