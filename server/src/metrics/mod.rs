//! What is counted and measured, under which names.
//!
//! Knows nothing of what it counts: whoever does the work holds the meters of it, and the registry
//! that [`Registry::text`] writes out is put together once, from all of them. Labels are words of a
//! fixed list or routes of the API, never what a host, a tenant or a caller has named.

mod known_gauge;
mod metric_sets;
mod registry;

pub use self::metric_sets::{DispatchMeters, Gauges, HttpMeters, WebhookMeters, WriterMeters};
pub use self::registry::{Parts, Registry, Unwritable};
