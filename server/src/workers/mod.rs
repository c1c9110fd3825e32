//! Background workers: loops that call services, so that timers and requests share one code path.

mod change_processor;
mod dispatcher;
mod event_publisher;
mod group_reconciler;
mod output_compactor;
mod scheduler;
mod webhook_sender;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::hub::Hub;
use crate::services::Services;

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
        let (dispatch, for_dispatch) = (services.dispatcher.clone(), Arc::clone(hub));
        tasks.spawn(async move {
            dispatcher::run(dispatch, for_dispatch).await;
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
            group_reconciler::run(groups).await;
            "group reconciler"
        });
        let compaction = services.output_compaction.clone();
        tasks.spawn(async move {
            output_compactor::run(compaction, for_output).await;
            "output compactor"
        });
        let scheduler = scheduler::Scheduler::start(&services.maintenance).await?;
        Ok(Self { tasks, scheduler })
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
