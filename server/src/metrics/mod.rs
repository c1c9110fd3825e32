//! Names and values of the server's metrics.
//!
//! This module does not know what is measured. Each part of the server holds its own metrics, and
//! [`Registry::text`] writes all of them. Label values come from fixed lists or are API route
//! templates. They never contain names of hosts, tenants or callers.

mod classic;
mod metric_sets;
mod registry;

pub use self::metric_sets::{DispatchMetrics, Gauges, HttpMetrics, WebhookMetrics, WriterMetrics};
pub use self::registry::{MetricSet, MetricsFormat, Registry, Unwritable};
