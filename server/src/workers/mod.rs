//! Loops that call services, so that a timer and a request share one path.

mod dispatcher;
mod output_keeper;
mod timetable;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::hub::Hub;
use crate::services::Services;

/// The server's background work. Ends when dropped.
pub struct Workers {
    tasks: JoinSet<&'static str>,
    timetable: timetable::Timetable,
}

impl Workers {
    /// Starts all of it.
    ///
    /// # Errors
    /// If the timetable can't be made.
    pub async fn start(services: &Services, hub: &Arc<Hub>) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let (dispatch, hub) = (services.dispatch.clone(), Arc::clone(hub));
        tasks.spawn(async move {
            dispatcher::run(dispatch, hub).await;
            "dispatcher"
        });
        let keeping = services.output_keeping.clone();
        tasks.spawn(async move {
            output_keeper::run(keeping).await;
            "output keeper"
        });
        let timetable = timetable::Timetable::start(&services.upkeep).await?;
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
