//! Another authority of the server, announced in a session.

use muster_protocol::frame::{AgentFrame, AuthorityNotice};

use super::Session;

impl Session<'_> {
    /// Stores the authority that the server announces, and confirms it. A server that gets no confirmation
    /// knows that this agent does not trust it.
    pub(super) fn follow_authority(&mut self, notice: &AuthorityNotice) {
        let id = notice.id;
        match self.agent.authorities.follow(notice) {
            Ok(()) => {
                tracing::info!(%id, "stored the authority that the server announced");
                self.push(&AgentFrame::AuthoritiesStored { id });
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the authority that the server announced is not trusted");
            }
        }
    }
}
