//! Background workers: loops that call services, so that timers and requests share one code path.

mod alert_checker;
mod approval_sweeper;
mod assignment_sender;
mod change_processor;
pub mod control;
mod event_publisher;
mod mail_sender;
mod memory_returner;
mod output_compactor;
mod schedule_runner;
mod scheduler;
mod storage_purger;
mod storage_sampler;
mod tenant_eraser;
mod webhook_sender;

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::error_chain;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::adapters::control_socket::ControlListener;
use crate::hub::Hub;
use crate::services::Services;
use crate::services::commands::dispatch::Dispatcher;
use crate::services::operations::key_rotations::KeyRotations;
use crate::services::releases::groups::{Groups, ReconcileOutcome};

/// Most agents of one call of the dispatcher.
const AGENTS_PER_CALL: usize = 500;
/// Pause of the dispatcher after a database error.
const DISPATCH_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The server's background workers. They stop when this is dropped.
pub struct Workers {
    tasks: JoinSet<&'static str>,
    scheduler: scheduler::Scheduler,
}

impl Workers {
    /// Starts all workers.
    ///
    /// # Errors
    /// If the scheduler cannot be created.
    pub async fn start(services: &Services, hub: &Arc<Hub>) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let (for_webhooks, for_output) = (Arc::clone(hub), Arc::clone(hub));
        let (for_schedules, for_approvals) = (Arc::clone(hub), Arc::clone(hub));
        let (dispatch, for_dispatch) = (services.dispatcher.clone(), Arc::clone(hub));
        tasks.spawn(async move {
            run_dispatcher(dispatch, for_dispatch).await;
            "dispatcher"
        });
        let (changes, reconciler) =
            (services.change_publisher.clone(), services.job_reconciler.clone());
        let (for_events, hub) = (Arc::clone(hub), Arc::clone(hub));
        tasks.spawn(async move {
            change_processor::run(changes, reconciler, hub).await;
            "change processor"
        });
        let webhooks = services.webhooks.clone();
        tasks.spawn(async move {
            webhook_sender::run(webhooks, for_webhooks).await;
            "webhook sender"
        });
        let events = services.events.clone();
        tasks.spawn(async move {
            event_publisher::run(|| events.publisher(), for_events).await;
            "event publisher"
        });
        let groups = services.groups.clone();
        tasks.spawn(async move {
            run_group_reconciler(groups).await;
            "group reconciler"
        });
        let compaction = services.output_compaction.clone();
        tasks.spawn(async move {
            output_compactor::run(compaction, for_output).await;
            "output compactor"
        });
        let freed = services.freed_memory.clone();
        tasks.spawn(async move {
            memory_returner::run(freed).await;
            "memory returner"
        });
        let deletion = services.tenant_deletion.clone();
        tasks.spawn(async move {
            tenant_eraser::run(deletion).await;
            "tenant eraser"
        });
        let mails = services.mails.clone();
        tasks.spawn(async move {
            mail_sender::run(mails).await;
            "mail sender"
        });
        let approvals = services.approvals.clone();
        tasks.spawn(async move {
            approval_sweeper::run(approvals, for_approvals).await;
            "approval sweeper"
        });
        let schedules = services.schedules.clone();
        tasks.spawn(async move {
            schedule_runner::run(schedules, for_schedules).await;
            "schedule runner"
        });
        let assignments = services.assignments.clone();
        tasks.spawn(async move {
            assignment_sender::run(assignments).await;
            "assignment sender"
        });
        let assignments = services.assignments.clone();
        tasks.spawn(async move {
            assignment_sender::run_rollouts(assignments).await;
            "assignment rollouts"
        });
        let alerts = services.alerts.clone();
        tasks.spawn(async move {
            alert_checker::run(alerts).await;
            "alert checker"
        });
        let storage = services.storage.clone();
        tasks.spawn(async move {
            storage_purger::run(storage).await;
            "storage purger"
        });
        let storage = services.storage.clone();
        tasks.spawn(async move {
            storage_sampler::run(storage).await;
            "storage sampler"
        });
        let scheduler = scheduler::Scheduler::start(&services.maintenance).await?;
        Ok(Self { tasks, scheduler })
    }

    /// Does what the operator asks by the control socket.
    pub fn serve_control(&mut self, listener: ControlListener, rotations: KeyRotations) {
        self.tasks.spawn(async move {
            control::run(listener, rotations).await;
            "control socket"
        });
    }

    /// Waits until a worker stops, which only happens after a failure.
    pub async fn ended(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "all workers".to_owned(),
        }
    }

    /// Stops all workers.
    pub async fn stop(mut self) {
        self.scheduler.stop().await;
        self.tasks.shutdown().await;
    }
}

/// Delivers queued commands to agents with a wake-up. After an error it wakes them again.
async fn run_dispatcher(dispatcher: Dispatcher, hub: Arc<Hub>) {
    loop {
        let agents = hub.next_woken(AGENTS_PER_CALL).await;
        if let Err(error) = dispatcher.deliver(&agents).await {
            let error = error_chain(&error);
            tracing::warn!(error, "failed to deliver commands; retrying");
            agents.iter().for_each(|id| hub.wake(*id));
            tokio::time::sleep(DISPATCH_RETRY_PAUSE).await;
        }
    }
}

/// Reconciles groups in rounds. Dropping it loses nothing: each round decides from what is stored.
async fn run_group_reconciler(groups: Groups) {
    loop {
        let started_at = Instant::now();
        let outcome = match groups.reconcile_all().await {
            Ok(outcome) => outcome,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to reconcile groups; retrying");
                ReconcileOutcome::Busy
            }
        };
        groups.wait(outcome, started_at.elapsed()).await;
    }
}
