//! The packages that the server wants on this host.

use muster_protocol::CommandName;
use muster_protocol::frame::AgentFrame;
use muster_protocol::package::{AssignedItem, MAX_AGENT_ASSIGNMENTS};

use super::Session;
use crate::agent::request_log::RequestRecord;

impl Session<'_> {
    /// Takes the list of packages that this host must have.
    pub(super) fn assign(&mut self, revision: u64, items: Vec<AssignedItem>) {
        if self.deregistration.is_some() {
            return;
        }
        if items.len() > MAX_AGENT_ASSIGNMENTS {
            self.log_unexpected("assignments", "the server assigned more packages than it may");
            return;
        }
        let known = self.agent.executions.assigned_items();
        let changes: Vec<RequestRecord> = items
            .iter()
            .filter(|item| !known.contains(item))
            .map(RequestRecord::assignment)
            .collect();
        changes.iter().for_each(|record| self.agent.request_log.append(record));
        let agent_id = self.agent.identity.agent_id.unwrap_or_default();
        let is_permitted = self.permissions.allows(CommandName::Execute);
        match self.agent.executions.assign(agent_id, is_permitted, items) {
            Ok(()) => {
                self.assignments_revision = Some(revision);
                self.send_assignment_states();
            }
            Err(error) => {
                // The next session sends the list again.
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "failed to store the assignments of this host");
            }
        }
    }

    /// Reports how far this host is with its assignments, once the server has sent them.
    pub(super) fn send_assignment_states(&mut self) {
        let Some(revision) = self.assignments_revision else { return };
        let items = self.agent.executions.assignment_reports();
        self.push(&AgentFrame::AssignmentStates { revision, items });
    }
}
