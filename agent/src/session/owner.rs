//! What the host's owner asks for while a session is open, and what came of it.

use muster_protocol::frame::AgentFrame;
use tokio::time::Instant;
use uuid::Uuid;

use super::{FAREWELL, Farewell, Session};

impl Session<'_> {
    /// Looks for the verdict on what was wished for. The server is told of one that no command waits
    /// for; should it not get there, the next session begins with it.
    pub(super) fn look_for_verdict(&mut self) {
        let is_own = self.agent.desk.inventory().is_none();
        self.agent.take_verdict();
        if is_own
            && self.agent.desk.look_at().is_none()
            && let Some(verdict) = self.agent.desk.verdict()
        {
            let verdict = verdict.clone();
            self.push(&AgentFrame::UpdateResult { result: verdict });
        }
    }

    /// Ends for another version, if that is asked for. Nothing is looked at while the session ends
    /// for something else: who asks rings again, and the next agent hears it.
    pub(super) fn take_request(&mut self) {
        if self.farewell.is_some() || self.leaving.is_some() {
            return;
        }
        let Some(code) = self.agent.desk.take_request() else { return };
        tracing::info!(
            "the agent ends for its supervisor to fetch what this host's owner asks for"
        );
        let (command_id, until) = (Uuid::nil(), Instant::now() + FAREWELL);
        self.farewell = Some(Farewell { code, command_id, until });
    }
}
