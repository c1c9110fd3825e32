//! The supervisor's status: `supervisor.json`, messages to the service manager, and the health check
//! that reads the file.

pub mod file;
pub mod health;
mod publisher;
mod service_manager;

pub use publisher::StatusPublisher;
pub use service_manager::{SERVICE_MANAGER_VARIABLES, ServiceManager, watchdog_interval};
