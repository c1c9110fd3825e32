//! What a shim sets up for a service, and reports about it.

use muster_protocol::package::{ServiceHealth, ServiceLimits};

use super::Execution;
use crate::executions::ledger::record::ServiceStatus;
use crate::platform::{ControlGroup, GroupLimits};
use crate::storage;

impl Execution {
    /// Sets up what only services have.
    pub(super) fn prepare_service(&mut self) {
        let Some(service) = &self.launch.service else { return };
        if service.has_limits() {
            let limits = GroupLimits {
                max_memory_bytes: service.max_memory_bytes,
                max_cpu_percent: service.max_cpu_percent,
            };
            match ControlGroup::create(&self.command_id.hyphenated().to_string(), limits) {
                Ok(group) => {
                    self.group = Some(group);
                    self.limits = Some(ServiceLimits::Applied);
                }
                Err(error) => {
                    self.log.line(format_args!("the limits of the service do not hold: {error}"));
                    self.limits = Some(ServiceLimits::Unavailable);
                }
            }
        }
        let health = service.health.as_ref().map(|_| ServiceHealth::Unknown);
        self.write_status(ServiceStatus { health, limits: self.limits });
    }

    /// Stores the status of a service for the agent. Without it the agent reports less.
    pub(super) fn write_status(&self, status: ServiceStatus) {
        let path = self.dir.status();
        if let Err(error) = storage::replace_synced(&path, &storage::seal(&status)) {
            self.log.line(format_args!("the status of the service was not stored: {error}"));
        }
        self.notifier.notify();
    }
}
