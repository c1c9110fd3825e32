//! The metrics of each part of the server. Each metric is a few atomics, or a histogram behind a
//! lock that is held for nanoseconds. Clones share their values.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// One label: its name and value.
pub(super) type OneLabel = [(&'static str, &'static str); 1];
/// Two labels: their names and values.
pub(super) type TwoLabels = [(&'static str, &'static str); 2];

/// Metrics of the database writer.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    /// Operations in one transaction.
    pub(super) batch_operations: Histogram,
    /// From the first statement to the end of the commit.
    pub(super) commit_seconds: Histogram,
    pub(super) failed_commits: Counter,
    /// Commands that reached a terminal state.
    pub(super) ended: Family<OneLabel, Counter>,
    pub(super) output_bytes: Counter,
}

impl Default for WriterMetrics {
    fn default() -> Self {
        Self {
            batch_operations: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            // 0.25 ms to 8 s.
            commit_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            failed_commits: Counter::default(),
            ended: Family::default(),
            output_bytes: Counter::default(),
        }
    }
}

impl WriterMetrics {
    /// Records a committed transaction.
    pub fn committed(&self, operations: usize, took: Duration) {
        self.batch_operations.observe(operations as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Records a transaction that failed as a whole.
    pub fn failed(&self) {
        self.failed_commits.inc();
    }

    /// Records commands that ended in a state.
    pub fn ended(&self, state: &'static str, commands: u64) {
        if commands > 0 {
            self.ended.get_or_create(&[("state", state)]).inc_by(commands);
        }
    }

    /// Records stored output.
    pub fn stored_output(&self, bytes: u64) {
        self.output_bytes.inc_by(bytes);
    }
}

/// Metrics of command delivery.
#[derive(Debug, Clone)]
pub struct DispatchMetrics {
    pub(super) wait_seconds: Histogram,
}

impl Default for DispatchMetrics {
    fn default() -> Self {
        // 1 ms to about 18 hours, because agents may be offline for long.
        Self { wait_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 14)) }
    }
}

impl DispatchMetrics {
    /// Records a durable command that was sent, and the time since its creation.
    pub fn sent(&self, after_ms: u64) {
        self.wait_seconds.observe(Duration::from_millis(after_ms).as_secs_f64());
    }
}

/// Metrics of webhooks.
#[derive(Debug, Clone, Default)]
pub struct WebhookMetrics {
    pub(super) attempts: Family<OneLabel, Counter>,
}

impl WebhookMetrics {
    /// Records an attempt and its result.
    pub fn attempted(&self, result: &'static str) {
        self.attempts.get_or_create(&[("result", result)]).inc();
    }
}

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

/// Labels of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Route {
    method: &'static str,
    route: String,
}

/// Metrics of the API.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    pub(super) requests: Family<Request, Counter>,
    pub(super) seconds: Family<Route, Histogram>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        // 1 ms to 65 s: a request may wait for at most 60 s.
        let seconds = || Histogram::new(exponential_buckets(0.001, 4.0, 9));
        Self { requests: Family::default(), seconds: Family::new_with_constructor(seconds) }
    }
}

impl HttpMetrics {
    /// Records a finished request. `route` is a template. Unknown methods count as `other`.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        const METHODS: [&str; 7] = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"];
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let route = Route { method, route: route.to_owned() };
        self.seconds.get_or_create(&route).observe(took.as_secs_f64());
        let request = Request { method, route: route.route, status };
        self.requests.get_or_create(&request).inc();
    }
}

/// Gauges that are read when the metrics are requested.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    pub agents_online: Gauge,
    pub(super) sessions: Family<TwoLabels, Gauge>,
    pub(super) open_commands: Family<OneLabel, Gauge>,
    pub writer_queue: Gauge,
    pub dispatch_wakes: Gauge,
    pub mailbox_messages: Gauge,
    pub(super) pending_webhooks: KnownGauge,
    pub(super) database_up: Gauge,
    pub resident_bytes: Gauge,
    pub(super) cpu_seconds: Counter<f64, AtomicU64>,
}

impl Gauges {
    /// Sets the processor time used since the server started.
    pub fn set_cpu(&self, taken: Duration) {
        // Never decreases, as a counter requires. The atomic holds the bits of the number.
        self.cpu_seconds.inner().store(taken.as_secs_f64().to_bits(), Ordering::Relaxed);
    }

    /// Sets the number of sessions of a kind.
    pub fn set_sessions(&self, level: &'static str, transport: &'static str, count: usize) {
        let labels = [("level", level), ("transport", transport)];
        self.sessions.get_or_create(&labels).set(count as i64);
    }

    /// Sets the values that the database returned: open commands by state, and undelivered
    /// webhooks.
    pub fn set_stored(&self, open: impl Iterator<Item = (&'static str, u64)>, pending: u64) {
        for (state, count) in open {
            self.open_commands.get_or_create(&[("state", state)]).set(count.cast_signed());
        }
        self.pending_webhooks.set(Some(pending.cast_signed()));
        self.database_up.set(1);
    }

    /// The database is unavailable: removes the values that it returned earlier.
    pub fn clear_stored(&self) {
        self.open_commands.clear();
        self.pending_webhooks.set(None);
        self.database_up.set(0);
    }
}

/// A number, or unknown. Clones share the value.
#[derive(Debug, Clone, Default)]
pub struct KnownGauge(Arc<Mutex<Option<i64>>>);

impl KnownGauge {
    /// `None`: the value is unknown.
    pub fn set(&self, value: Option<i64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

impl EncodeMetric for KnownGauge {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(value) => encoder.encode_gauge(&value),
            None => Ok(()),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
