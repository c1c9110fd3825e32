//! Requests of the host's owner during a session, and their results.

use muster_protocol::frame::AgentFrame;
use tokio::time::Instant;
use uuid::Uuid;

use super::{EXIT_RECEIPT_TIMEOUT, PendingExit, Session};

impl Session<'_> {
    /// Reads the result of the update request. A result that no command waits for is sent to the
    /// server; if that fails, the next session starts with it.
    pub(super) fn check_update_result(&mut self) {
        let is_own = self.agent.update_requests.inventory().is_none();
        self.agent.apply_update_result();
        if is_own
            && self.agent.update_requests.next_check_at().is_none()
            && let Some(result) = self.agent.update_requests.last_result()
        {
            let result = result.clone();
            self.push(&AgentFrame::UpdateResult { result });
        }
    }

    /// Accepts an update request of the owner and ends the session for it. A session that is
    /// already ending ignores it: the requester notifies again, and the next agent process accepts
    /// it.
    pub(super) fn accept_owner_request(&mut self) {
        if self.pending_exit.is_some() || self.deregistration.is_some() {
            return;
        }
        let Some(code) = self.agent.update_requests.accept_owner_request() else { return };
        tracing::info!(
            "exiting so that the supervisor installs the version that this host's owner requested"
        );
        let (command_id, until) = (Uuid::nil(), Instant::now() + EXIT_RECEIPT_TIMEOUT);
        self.pending_exit = Some(PendingExit { code, command_id, until });
    }
}
