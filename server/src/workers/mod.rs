//! Loops that call services, so that a timer and a request share one path.

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

/// The server's background work. Ends when dropped.
pub struct Workers {
    tasks: JoinSet<&'static str>,
    timetable: scheduler::Timetable,
}

impl Workers {
    /// Starts all of it.
    ///
    /// # Errors
    /// If the timetable can't be made.
    pub async fn start(services: &Services, hub: &Arc<Hub>) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let (for_webhooks, for_output) = (Arc::clone(hub), Arc::clone(hub));
        let (dispatch, woken) = (services.dispatch.clone(), Arc::clone(hub));
        tasks.spawn(async move {
            dispatcher::run(dispatch, woken).await;
            "dispatcher"
        });
        let (changes, keeping) = (services.changes.clone(), services.keeping.clone());
        let (told, hub) = (Arc::clone(hub), Arc::clone(hub));
        tasks.spawn(async move {
            change_processor::run(changes, keeping, hub).await;
            "changes"
        });
        let sending = services.webhooks.clone();
        tasks.spawn(async move {
            webhook_sender::run(sending, for_webhooks).await;
            "webhooks"
        });
        let (events, told) = (services.events.clone(), Arc::clone(&told));
        tasks.spawn(async move {
            event_publisher::run(|| events.telling(), told).await;
            "teller"
        });
        let groups = services.groups.clone();
        tasks.spawn(async move {
            group_reconciler::run(groups).await;
            "groups"
        });
        let keeping = services.output_keeping.clone();
        tasks.spawn(async move {
            output_compactor::run(keeping, for_output).await;
            "output keeper"
        });
        let timetable = scheduler::Timetable::start(&services.upkeep).await?;
        Ok(Self { tasks, timetable })
    }

    /// Waits for a worker to end, which none does while the server is in order.
    pub async fn ended(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "all workers".to_owned(),
        }
    }

    /// Ends all of it.
    pub async fn stop(mut self) {
        self.timetable.stop().await;
        self.tasks.shutdown().await;
    }
}
