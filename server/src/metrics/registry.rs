//! Registers every metric under its name, and writes the Prometheus text.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Registry as Names, Unit};

use super::classic;
use super::{DispatchMetrics, Gauges, HttpMetrics, WebhookMetrics, WriterMetrics};

/// The metrics of the whole server.
#[derive(Debug, Clone, Default)]
pub struct MetricSet {
    pub writer: WriterMetrics,
    pub dispatch: DispatchMetrics,
    pub webhooks: WebhookMetrics,
    pub http: HttpMetrics,
    pub gauges: Gauges,
}

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own text format, version 0.0.4.
    Classic,
}

/// The metrics could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to write the metrics")]
pub struct Unwritable;

/// All metrics with their names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Names>);

impl Registry {
    /// Registers the metrics.
    pub fn new(parts: &MetricSet) -> Self {
        let mut names = Names::with_prefix("muster");
        let MetricSet { writer, dispatch, webhooks, http, gauges } = parts.clone();
        names.register(
            "commands_open",
            "Durable commands that have not ended",
            gauges.open_commands,
        );
        names.register(
            "commands_ended",
            "Durable commands that reached a terminal state since the server started",
            writer.ended,
        );
        names.register_with_unit(
            "dispatch_wait",
            "Time from the creation of a durable command until it is sent",
            Unit::Seconds,
            dispatch.wait_seconds,
        );
        names.register(
            "database_up",
            "1 if the database answered this scrape, else 0; metrics that need the database are then missing",
            gauges.database_up,
        );
        names.register("agents_online", "Connected agents", gauges.agents_online);
        names.register("sessions", "Agent sessions", gauges.sessions);
        names.register(
            "session_mailbox_messages",
            "Messages queued in the mailboxes of all sessions",
            gauges.mailbox_messages,
        );
        names.register("dispatch_wakes", "Agents queued for the dispatcher", gauges.dispatch_wakes);
        names.register(
            "writer_queue_operations",
            "Writes queued for a transaction",
            gauges.writer_queue,
        );
        names.register(
            "writer_batch_operations",
            "Writes in one transaction",
            writer.batch_operations,
        );
        names.register_with_unit(
            "writer_commit",
            "Duration of a transaction, from its first statement to the end of the commit",
            Unit::Seconds,
            writer.commit_seconds,
        );
        names.register(
            "writer_failed_commits",
            "Transactions that failed as a whole",
            writer.failed_commits,
        );
        names.register_with_unit(
            "output_stored",
            "Stored output of executions",
            Unit::Bytes,
            writer.output_bytes,
        );
        names.register("http_requests", "Finished requests", http.requests);
        names.register("http_responses", "Finished requests by class of status", http.responses);
        names.register_with_unit(
            "http_request_duration",
            "Time from the head of a request to the head of its response",
            Unit::Seconds,
            http.seconds,
        );
        names.register("webhook_attempts", "Attempts to send webhooks", webhooks.attempts);
        names.register(
            "webhook_deliveries_pending",
            "Webhook deliveries that are pending",
            gauges.pending_webhooks,
        );
        names.register_with_unit(
            "database_size",
            "Size of the database",
            Unit::Bytes,
            gauges.database_bytes,
        );
        names.register_with_unit(
            "storage",
            "What all tenants store, as measured last",
            Unit::Bytes,
            gauges.storage_bytes,
        );
        names.register_with_unit(
            "disk_free",
            "Free space of the disk with the server's data directory",
            Unit::Bytes,
            gauges.disk_free_bytes,
        );
        names.register("build_info", "The version of the server; always 1", gauges.build);
        names.register_with_unit(
            "process_start_time",
            "When the server started, in seconds since 1970",
            Unit::Seconds,
            gauges.start_seconds,
        );
        names.register("process_open_fds", "Open files of the server", gauges.open_files);
        names.register("process_max_fds", "Files that the server can have open", gauges.max_files);
        names.register_with_unit(
            "process_resident_memory",
            "Resident memory of the server",
            Unit::Bytes,
            gauges.resident_bytes,
        );
        names.register_with_unit(
            "process_cpu",
            "Processor time used by the server",
            Unit::Seconds,
            gauges.cpu_seconds,
        );
        Self(Arc::new(names))
    }

    /// Writes all metrics.
    ///
    /// # Errors
    /// [`Unwritable`]; writing to memory does not fail in practice.
    pub fn text(&self, format: MetricsFormat) -> Result<String, Unwritable> {
        let mut text = String::new();
        encode(&mut text, &self.0).map_err(|_| Unwritable)?;
        Ok(match format {
            MetricsFormat::OpenMetrics => text,
            MetricsFormat::Classic => classic::from_open_metrics(&text),
        })
    }
}
