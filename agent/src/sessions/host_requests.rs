//! What the host's owner asks for while a session is open, and what came of it.

use muster_protocol::frame::AgentFrame;
use tokio::time::Instant;
use uuid::Uuid;

use super::{EXIT_RECEIPT_TIMEOUT, PendingExit, Session};

impl Session<'_> {
    /// Looks for the verdict on what was wished for. The server is told of one that no command waits
    /// for; should it not get there, the next session begins with it.
    pub(super) fn check_update_result(&mut self) {
        let is_own = self.agent.update_requests.inventory().is_none();
        self.agent.apply_update_result();
        if is_own
            && self.agent.update_requests.next_check_at().is_none()
            && let Some(verdict) = self.agent.update_requests.last_result()
        {
            let verdict = verdict.clone();
            self.push(&AgentFrame::UpdateResult { verdict });
        }
    }

    /// Ends for another version, if that is asked for. Nothing is looked at while the session ends
    /// for something else: who asks rings again, and the next agent hears it.
    pub(super) fn accept_owner_request(&mut self) {
        if self.pending_exit.is_some() || self.deregistration.is_some() {
            return;
        }
        let Some(code) = self.agent.update_requests.accept_owner_request() else { return };
        tracing::info!(
            "the agent ends for its supervisor to fetch what this host's owner asks for"
        );
        let (command_id, until) = (Uuid::nil(), Instant::now() + EXIT_RECEIPT_TIMEOUT);
        self.pending_exit = Some(PendingExit { code, command_id, until });
    }
}
