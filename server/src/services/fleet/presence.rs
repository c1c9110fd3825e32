//! Whether an agent counts as online.

use std::sync::Arc;

use crate::domain::ids::AgentId;
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;

/// Which agents are online. Shortly after a start, agents of the previous server count as online while
/// they reconnect.
#[derive(Clone, Debug)]
pub(in crate::services) struct Presence {
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    /// When this server started.
    pub(in crate::services) started_at: Timestamp,
    /// How long an agent may take to reconnect.
    pub(in crate::services) silence_ms: u64,
}

impl Presence {
    /// True if the agent is connected, or was connected when this server started a moment ago.
    /// `stored_online_since`: the start of its session, if the database has it as open.
    pub(in crate::services) fn is_online(
        &self,
        agent_id: AgentId,
        stored_online_since: Option<Timestamp>,
    ) -> bool {
        let is_young = self.clock.now().ms_since(self.started_at) < self.silence_ms;
        // The hub is the first to know that a session of this server has ended.
        let was_online = stored_online_since.is_some_and(|since| since < self.started_at);
        self.hub.is_connected(agent_id) || (is_young && was_online)
    }

    /// Since when an agent is offline; `None` if it is connected. Time while the server was down does
    /// not count.
    pub(in crate::services) fn offline_since(
        &self,
        agent_id: AgentId,
        last_seen_at: Timestamp,
    ) -> Option<Timestamp> {
        (!self.hub.is_connected(agent_id)).then(|| last_seen_at.max(self.started_at))
    }
}
