//! Figures of the whole server, for whoever watches it.

use std::sync::Arc;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::domain::access::principal::Scope;
use crate::domain::commands::command_state::CommandState;
use crate::hub::Hub;
use crate::metrics::{Gauges, HttpMeters, Parts, Registry};
use crate::services::access::authentication::DATABASE_PATIENCE;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, chain};
use crate::store::{Store, StoreError};

/// States that are not terminal.
const OPEN: [CommandState; 3] =
    [CommandState::Queued, CommandState::Delivered, CommandState::Running];

/// Use cases of metrics.
#[derive(Clone, Debug)]
pub struct Monitoring {
    store: Store,
    hub: Arc<Hub>,
    gauges: Gauges,
    http: HttpMeters,
    registry: Registry,
}

impl Monitoring {
    /// Names the meters that the rest of the server holds.
    pub(in crate::services) fn new(store: Store, hub: Arc<Hub>, parts: &Parts) -> Self {
        Self {
            store,
            hub,
            gauges: parts.gauges.clone(),
            http: parts.http.clone(),
            registry: Registry::new(parts),
        }
    }

    /// The meters of the API.
    pub fn http(&self) -> &HttpMeters {
        &self.http
    }

    /// All figures as they stand, in the OpenMetrics text format. They are of all tenants together.
    /// While the database is away, those that need it are left out.
    ///
    /// # Errors
    /// 403 without the scope `metrics:read`.
    pub async fn text(&self, caller: &Caller) -> Result<String> {
        caller.require(Scope::MetricsRead)?;
        self.look_at_database().await;
        self.look_at_hub();
        self.gauges.writer_queue.set(self.store.writer().waiting() as i64);
        self.look_at_process();
        // Nothing keeps text from being written into memory.
        Ok(self.registry.text().unwrap_or_default())
    }

    async fn look_at_database(&self) {
        let system = self.store.system();
        let asked = async {
            Ok::<_, StoreError>((system.open_commands().await?, system.pending_webhooks().await?))
        };
        let said = match tokio::time::timeout(DATABASE_PATIENCE, asked).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("it did not answer in time".to_owned()),
        };
        match said {
            Ok((open, pending)) => {
                let count =
                    |state| open.iter().find(|found| found.0 == state).map_or(0, |found| found.1);
                let open = OPEN.into_iter().map(|state| (state.as_str(), count(state)));
                self.gauges.set_stored(open, pending);
            }
            Err(error) => {
                tracing::warn!(error, "failed to ask the database for figures");
                self.gauges.forget_stored();
            }
        }
    }

    fn look_at_hub(&self) {
        let sessions = self.hub.sessions();
        self.gauges.agents_online.set(sessions.len() as i64);
        for (level, is_full) in [("full", true), ("basic", false)] {
            for (transport, is_http) in [("websocket", false), ("http", true)] {
                let count = sessions
                    .iter()
                    .filter(|session| session.is_full == is_full && session.is_http == is_http)
                    .count();
                self.gauges.set_sessions(level, transport, count);
            }
        }
        let waiting: usize = sessions.iter().map(|session| session.queued_messages()).sum();
        self.gauges.mailbox_messages.set(waiting as i64);
        self.gauges.dispatch_wakes.set(self.hub.waiting_wakes() as i64);
    }

    fn look_at_process(&self) {
        let Ok(mut system) = System::new() else { return };
        let own = Pid::from_u32(std::process::id());
        let wanted = ProcessRefreshKind::nothing().with_memory().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, wanted);
        if let Some(process) = system.process(own) {
            self.gauges.resident_bytes.set(process.memory().cast_signed());
            self.gauges.set_cpu(Duration::from_millis(process.accumulated_cpu_time()));
        }
    }
}
