//! Facts that a host reports about itself.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::facts::FactReport;
use tokio::time::Instant;

use crate::domain::fleet::reported_facts::ReportedFacts;
use crate::services::sessions::SessionEnd;
use crate::services::sessions::live::{CommitAck, LiveSession, VIOLATION};
use crate::store::writer::RecordFacts;

/// Least time between two changed reports of one session, as often as an agent collects at most. The agent is not
/// read meanwhile. Each change makes the server check which assignments the agent gets.
const FACTS_STORE_INTERVAL: Duration = Duration::from_secs(5);

impl LiveSession {
    pub(super) async fn facts(&mut self, report: FactReport) -> Result<(), SessionEnd> {
        let reported = ReportedFacts::accept(report);
        let digest = reported.digest();
        // The host may report the same again, as often as it likes.
        if self.inbound.facts_digest == Some(digest) {
            return Ok(());
        }
        if let Some(stored_at) = self.inbound.facts_stored_at {
            tokio::time::sleep_until(stored_at + FACTS_STORE_INTERVAL).await;
        }
        self.inbound.facts_stored_at = Some(Instant::now());
        self.inbound.facts_digest = Some(digest);
        let operation = RecordFacts {
            tenant_id: self.handle.tenant_id,
            agent_id: self.handle.agent_id,
            epoch: self.handle.epoch,
            reported,
            now: self.service.clock.now(),
        };
        let stored = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        let (hub, handle) = (Arc::clone(&self.service.hub), Arc::clone(&self.handle));
        self.pending.push_back(Box::pin(async move {
            if stored.await? {
                hub.notify_facts(&handle);
                if handle.takes_assignments() {
                    hub.request_assignments(handle.agent_id);
                }
            }
            Ok(CommitAck::None)
        }));
        Ok(())
    }
}
