//! Whether an agent counts as online.

use std::sync::Arc;

use crate::domain::ids::AgentId;
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;

/// Who is there, also while agents of the server before this one are still on their way back.
#[derive(Clone, Debug)]
pub(in crate::services) struct Presence {
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    /// When this server started.
    pub(in crate::services) started_at: Timestamp,
    /// How long an agent may take to come back.
    pub(in crate::services) silence_ms: u64,
}

impl Presence {
    /// True if the agent is connected, or was when this server started a moment ago.
    /// `stored_online_since`: when its session began that the database calls open.
    pub(in crate::services) fn is_online(
        &self,
        agent_id: AgentId,
        stored_online_since: Option<Timestamp>,
    ) -> bool {
        let is_young = self.clock.now().ms_since(self.started_at) < self.silence_ms;
        // Of sessions that began with this server, the hub knows first that they have ended.
        let was_online = stored_online_since.is_some_and(|since| since < self.started_at);
        self.hub.is_connected(agent_id) || (is_young && was_online)
    }

    /// Since when an agent that was seen last then is not connected; `None` if it is. While there was
    /// no server nobody was away from it.
    pub(in crate::services) fn offline_since(
        &self,
        agent_id: AgentId,
        last_seen_at: Timestamp,
    ) -> Option<Timestamp> {
        (!self.hub.is_connected(agent_id)).then(|| last_seen_at.max(self.started_at))
    }
}
