//! The last session of a host that is deregistered: ended commands are reported, nothing is
//! started, and then the server is asked to delete this agent.

use std::time::Duration;

use muster_protocol::frame::AgentFrame;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Session, SessionEnd};
use crate::executions::ledger::Phase;
use crate::link::LinkError;

/// How long results may take to be reported and receipted before the host deregisters without them.
pub const REPORT_TIME: Duration = Duration::from_secs(15);
/// Time limit for `deregistered`.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// The progress of a deregistration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deregistration {
    /// `deregister` has been sent.
    is_requested: bool,
    /// Deadline of the current step.
    until: Instant,
}

impl Deregistration {
    pub(super) fn begin() -> Self {
        Self { is_requested: false, until: Instant::now() + REPORT_TIME }
    }
}

impl Session<'_> {
    /// Cancels commands that were accepted but never started, so that they are reported to the
    /// server.
    pub(super) fn cancel_waiting(&mut self) {
        let entries = self.agent.executions.ledger().entries();
        let waiting: Vec<Uuid> = entries
            .filter(|(_, entry)| entry.phase == Phase::Waiting)
            .map(|(command_id, _)| command_id)
            .collect();
        for command_id in waiting {
            self.agent.executions.cancel(command_id, 0);
        }
    }

    /// Asks to be deleted once everything is reported or the time is up. Ends the session if there
    /// is no answer.
    pub(super) fn advance_deregistration(&mut self) -> Result<(), SessionEnd> {
        let Some(deregistration) = self.deregistration else { return Ok(()) };
        let is_over = Instant::now() >= deregistration.until;
        if deregistration.is_requested {
            if is_over {
                return Err(SessionEnd::Broken(LinkError::TimedOut("confirm the deregistration")));
            }
            return Ok(());
        }
        // Receipts arrive after the inventory is reconciled. If nothing is listed there is nothing
        // to wait for, because the server handles frames in order.
        let is_all_reported = self.agent.executions.ledger().entries().next().is_none();
        if is_over || is_all_reported {
            self.push(&AgentFrame::Deregister);
            let until = Instant::now() + ANSWER_TIME;
            self.deregistration = Some(Deregistration { is_requested: true, until });
        }
        Ok(())
    }

    /// The server has deleted this agent. Without a request this is ignored.
    pub(super) fn handle_deregistered(&mut self) -> Result<(), SessionEnd> {
        if self.deregistration.is_some_and(|deregistration| deregistration.is_requested) {
            return Err(SessionEnd::Deregistered);
        }
        self.log_unexpected("deregistered", "the server deregistered this agent without a request");
        Ok(())
    }

    /// The next deadline that the loop has to check.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let pending_exit = self.pending_exit.map(|pending_exit| pending_exit.until);
        let deregistration = self.deregistration.map(|deregistration| deregistration.until);
        pending_exit
            .into_iter()
            .chain(deregistration)
            .chain(self.agent.update_requests.next_check_at())
            .chain(self.outbox.next_retry_at())
            .min()
    }
}
