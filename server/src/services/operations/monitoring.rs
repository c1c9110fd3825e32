//! Metrics of the whole server.

use std::sync::Arc;
use std::time::Duration;

use strum::IntoEnumIterator as _;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::domain::access::principal::Scope;
use crate::domain::commands::command_state::CommandState;
use crate::hub::Hub;
use crate::metrics::{Gauges, HttpMetrics, MetricSet, MetricsFormat, Registry};
use crate::services::access::authentication::DATABASE_PATIENCE;
use crate::services::access::caller::Caller;
use crate::services::error::Result;
use crate::store::{Store, StoreError};
use muster_protocol::error_chain;

/// States that are not terminal.
const OPEN: [CommandState; 3] =
    [CommandState::Queued, CommandState::Delivered, CommandState::Running];

/// Use cases of metrics.
#[derive(Clone, Debug)]
pub struct Monitoring {
    store: Store,
    hub: Arc<Hub>,
    gauges: Gauges,
    http: HttpMetrics,
    registry: Registry,
}

impl Monitoring {
    /// Registers the metrics that the rest of the server holds.
    pub(in crate::services) fn new(store: Store, hub: Arc<Hub>, parts: &MetricSet) -> Self {
        let ended = CommandState::iter().filter(|state| state.is_terminal());
        parts.writer.start_at_zero(ended.map(CommandState::as_str));
        parts.gauges.set_version(env!("CARGO_PKG_VERSION"));
        Self {
            store,
            hub,
            gauges: parts.gauges.clone(),
            http: parts.http.clone(),
            registry: Registry::new(parts),
        }
    }

    /// The metrics of the API.
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// All current metrics, for all tenants together. While the database is unavailable, metrics
    /// that need it are missing.
    ///
    /// # Errors
    /// 403 without the scope `metrics:read`.
    pub async fn text(&self, caller: &Caller, format: MetricsFormat) -> Result<String> {
        caller.require(Scope::MetricsRead)?;
        self.read_database().await;
        self.read_hub();
        self.gauges.writer_queue.set(self.store.writer().waiting() as i64);
        self.gauges.set_disk_free(self.store.free_bytes());
        self.read_process();
        // Writing text to memory does not fail.
        Ok(self.registry.text(format).unwrap_or_default())
    }

    async fn read_database(&self) {
        let system = self.store.system();
        let query = async {
            let open = system.open_commands().await?;
            let pending = system.pending_webhooks().await?;
            let storage = system.server_storage().await?;
            Ok::<_, StoreError>((open, pending, storage, system.database_bytes().await?))
        };
        let result = match tokio::time::timeout(DATABASE_PATIENCE, query).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(error_chain(&error)),
            Err(_) => Err("the database did not answer in time".to_owned()),
        };
        match result {
            Ok((open, pending, storage, bytes)) => {
                let count =
                    |state| open.iter().find(|found| found.0 == state).map_or(0, |found| found.1);
                let open = OPEN.into_iter().map(|state| (state.as_str(), count(state)));
                self.gauges.set_stored(open, pending, bytes);
                let causes = storage.into_iter().flat_map(|measured| measured.usage.causes);
                self.gauges.set_storage(causes.map(|cause| {
                    (cause.cause.as_str(), cause.file_bytes + cause.estimated_row_bytes)
                }));
            }
            Err(error) => {
                tracing::warn!(error, "failed to read metrics from the database");
                self.gauges.clear_stored();
            }
        }
    }

    fn read_hub(&self) {
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

    fn read_process(&self) {
        let Ok(mut system) = System::new() else { return };
        let own = Pid::from_u32(std::process::id());
        let kinds = ProcessRefreshKind::nothing().with_memory().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, kinds);
        if let Some(process) = system.process(own) {
            let open = process.open_files().map(|files| files as u64);
            let max = process.open_files_limit().map(|files| files as u64);
            self.gauges.set_files(open, max);
            self.gauges.start_seconds.set(process.start_time().cast_signed());
            self.gauges.resident_bytes.set(process.memory().cast_signed());
            self.gauges.set_cpu(Duration::from_millis(process.accumulated_cpu_time()));
        }
    }
}
