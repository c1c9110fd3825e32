//! Every meter under its name, and their text for Prometheus.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Registry as Names, Unit};

use super::{DispatchMeters, Gauges, HttpMeters, WebhookMeters, WriterMeters};

/// The meters of a server.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    pub writer: WriterMeters,
    pub dispatch: DispatchMeters,
    pub webhooks: WebhookMeters,
    pub http: HttpMeters,
    pub gauges: Gauges,
}

/// The meters could not be written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the metrics")]
pub struct Unwritable;

/// The names of all meters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Names>);

impl Registry {
    /// Names the meters.
    pub fn new(parts: &Parts) -> Self {
        let mut names = Names::with_prefix("muster");
        let Parts { writer, dispatch, webhooks, http, gauges } = parts.clone();
        names.register("commands_open", "Durable commands that are not over", gauges.open_commands);
        names.register(
            "commands_ended",
            "Durable commands that reached a terminal state, since the server started",
            writer.ended,
        );
        names.register_with_unit(
            "dispatch_wait",
            "From a durable command's making to its frame's departure",
            Unit::Seconds,
            dispatch.wait_seconds,
        );
        names.register(
            "database_up",
            "1 if the database answered for these figures; else 0, and what it knows is left out",
            gauges.database_up,
        );
        names.register("agents_online", "Agents that are connected", gauges.agents_online);
        names.register("sessions", "Sessions of agents", gauges.sessions);
        names.register(
            "session_mailbox_messages",
            "Messages that wait in the mailboxes of all sessions",
            gauges.mailbox_messages,
        );
        names.register(
            "dispatch_wakes",
            "Agents that wait for the dispatcher",
            gauges.dispatch_wakes,
        );
        names.register(
            "writer_queue_operations",
            "Writes that wait for a transaction",
            gauges.writer_queue,
        );
        names.register(
            "writer_batch_operations",
            "Writes of one transaction",
            writer.batch_operations,
        );
        names.register_with_unit(
            "writer_commit",
            "A transaction, from its first statement to the end of its commit",
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
            "Output of executions that was stored",
            Unit::Bytes,
            writer.output_bytes,
        );
        names.register("http_requests", "Requests that were answered", http.requests);
        names.register_with_unit(
            "http_request_duration",
            "From a request's head to its answer's head",
            Unit::Seconds,
            http.seconds,
        );
        names.register("webhook_attempts", "Attempts to send a webhook", webhooks.attempts);
        names.register(
            "webhook_deliveries_pending",
            "Webhooks that are not delivered yet",
            gauges.pending_webhooks,
        );
        names.register_with_unit(
            "process_resident_memory",
            "Memory of the server that is resident",
            Unit::Bytes,
            gauges.resident_bytes,
        );
        names.register_with_unit(
            "process_cpu",
            "Processor time that the server has taken",
            Unit::Seconds,
            gauges.cpu_seconds,
        );
        Self(Arc::new(names))
    }

    /// All of it, in the OpenMetrics text format 1.0.
    ///
    /// # Errors
    /// [`Unwritable`], which does not happen.
    pub fn text(&self) -> Result<String, Unwritable> {
        let mut text = String::new();
        encode(&mut text, &self.0).map_err(|_| Unwritable)?;
        Ok(text)
    }
}
