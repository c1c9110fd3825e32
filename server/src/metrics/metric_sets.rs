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

/// Bounds of durations, in seconds: 1 ms to 60 s, each 2 to 2.5 times the one before.
const DURATION_BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];
/// Further bounds up to a day, for what waits until an agent is online.
const WAIT_BUCKETS: [f64; 9] =
    [120.0, 300.0, 600.0, 1_500.0, 3_600.0, 7_200.0, 18_000.0, 43_200.0, 86_400.0];
/// Results of an attempt to send a webhook.
const WEBHOOK_RESULTS: [&str; 4] = ["delivered", "gone", "refused", "unreachable"];
/// Classes of HTTP statuses.
const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

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
            commit_seconds: Histogram::new(DURATION_BUCKETS),
            failed_commits: Counter::default(),
            ended: Family::default(),
            output_bytes: Counter::default(),
        }
    }
}

impl WriterMetrics {
    /// Creates the counters of the states in which commands end.
    pub fn start_at_zero(&self, states: impl IntoIterator<Item = &'static str>) {
        start_at_zero(&self.ended, "state", states);
    }

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
        let buckets = DURATION_BUCKETS.into_iter().chain(WAIT_BUCKETS);
        Self { wait_seconds: Histogram::new(buckets) }
    }
}

impl DispatchMetrics {
    /// Records a durable command that was sent, and the time since its creation.
    pub fn sent(&self, after_ms: u64) {
        self.wait_seconds.observe(Duration::from_millis(after_ms).as_secs_f64());
    }
}

/// Metrics of webhooks.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    pub(super) attempts: Family<OneLabel, Counter>,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        let attempts = Family::default();
        start_at_zero(&attempts, "result", WEBHOOK_RESULTS);
        Self { attempts }
    }
}

/// Creates the counter of each known value of a label. Without it, a rate misses the first event.
fn start_at_zero(
    counters: &Family<OneLabel, Counter>,
    label: &'static str,
    values: impl IntoIterator<Item = &'static str>,
) {
    for value in values {
        drop(counters.get_or_create(&[(label, value)]));
    }
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
    pub(super) responses: Family<OneLabel, Counter>,
    pub(super) seconds: Family<Route, Histogram>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let responses = Family::default();
        start_at_zero(&responses, "class", STATUS_CLASSES);
        let seconds = || Histogram::new(DURATION_BUCKETS);
        Self {
            requests: Family::default(),
            responses,
            seconds: Family::new_with_constructor(seconds),
        }
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
        let class = usize::from(status / 100).checked_sub(2);
        if let Some(class) = class.and_then(|index| STATUS_CLASSES.get(index)) {
            self.responses.get_or_create(&[("class", class)]).inc();
        }
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
    pub(super) database_bytes: KnownGauge,
    pub(super) storage_bytes: Family<OneLabel, Gauge>,
    pub(super) disk_free_bytes: KnownGauge,
    pub(super) build: Family<OneLabel, Gauge>,
    pub start_seconds: Gauge,
    pub(super) open_files: KnownGauge,
    pub(super) max_files: KnownGauge,
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

    /// Sets the version of the server.
    pub fn set_version(&self, version: &'static str) {
        self.build.get_or_create(&[("version", version)]).set(1);
    }

    /// Sets the open files of the process and their limit, as far as they are known.
    pub fn set_files(&self, open: Option<u64>, max: Option<u64>) {
        self.open_files.set(open.map(u64::cast_signed));
        self.max_files.set(max.map(u64::cast_signed));
    }

    /// Sets the free space of the disk with the server's data, if it is known.
    pub fn set_disk_free(&self, bytes: Option<u64>) {
        self.disk_free_bytes.set(bytes.map(u64::cast_signed));
    }

    /// Sets the values that the database returned: open commands by state, undelivered webhooks,
    /// and its size.
    pub fn set_stored(
        &self,
        open: impl Iterator<Item = (&'static str, u64)>,
        pending: u64,
        database_bytes: u64,
    ) {
        self.database_bytes.set(Some(database_bytes.cast_signed()));
        for (state, count) in open {
            self.open_commands.get_or_create(&[("state", state)]).set(count.cast_signed());
        }
        self.pending_webhooks.set(Some(pending.cast_signed()));
        self.database_up.set(1);
    }

    /// Sets what the server stored by cause when it was measured last.
    pub fn set_storage(&self, causes: impl Iterator<Item = (&'static str, u64)>) {
        for (cause, bytes) in causes {
            self.storage_bytes.get_or_create(&[("cause", cause)]).set(bytes.cast_signed());
        }
    }

    /// The database is unavailable: removes the values that it returned earlier.
    pub fn clear_stored(&self) {
        self.open_commands.clear();
        self.pending_webhooks.set(None);
        self.database_bytes.set(None);
        self.storage_bytes.clear();
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
