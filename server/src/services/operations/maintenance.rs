//! What only time brings about: deadlines, silence, retention.

use std::sync::Arc;

use muster_protocol::CloseCode;
use muster_protocol::frame::Telemetry;

use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::Settings;
use crate::services::sessions::heartbeats::Heartbeats;
use crate::store::queries::Retention;
use crate::store::writer::{CloseSession, IndexHistory, RecordHeartbeat};
use crate::store::{Store, StoreError};

/// How long telemetry is kept: 24 h.
const TELEMETRY_MS: u64 = 24 * 3_600_000;
/// How long webhooks are kept that are delivered or given up: 30 days, or as long as history.
const DELIVERIES_MS: u64 = 30 * 24 * 3_600_000;
/// Slices of old history that one sweep drops at the most.
const MAX_SLICES: u32 = 2_000;
/// Commands that one turn files, which holds the writer up for some 50 ms. Under more load than
/// this a second what is new waits in an index of its own, and pages of the history get short.
const FILED_AT_ONCE: u64 = 5_000;
/// How long idempotency keys are remembered: 24 h.
const IDEMPOTENCY_MS: u64 = 24 * 3_600_000;

/// Sweeps. Each is bounded; what it leaves, the next one takes.
#[derive(Clone, Debug)]
pub struct Maintenance {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    /// When this server started: its own absence is no agent's.
    pub(in crate::services) started_at: Timestamp,
    pub(in crate::services) heartbeats: Heartbeats,
}

impl Maintenance {
    /// Ends queued commands past their deadline.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep_deadlines(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let system = self.store.system();
        let expired = system.expire_queued(now).await?;
        self.ended(expired, "expired in the queue");
        Ok(())
    }

    /// Ends commands whose agents have kept silent for too long.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep_lost(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let system = self.store.system();
        self.ended(system.lose_away(now, self.started_at).await?, "lost: agent away");
        self.ended(system.lose_unanswered(now).await?, "lost: no response");
        Ok(())
    }

    fn ended(&self, commands: Vec<(CommandId, AgentId)>, why: &'static str) {
        if !commands.is_empty() {
            tracing::info!(commands = commands.len(), why, "commands ended by their clocks");
        }
        for (command_id, agent_id) in commands {
            self.hub.release(agent_id, command_id);
            self.hub.notify_maybe_ended(command_id);
        }
    }

    /// Commits the heartbeats that wait, as one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; the heartbeats are dropped then, and the next ones follow soon.
    pub async fn store_heartbeats(&self) -> Result<(), StoreError> {
        let mut waits = Vec::new();
        for heartbeat in self.heartbeats.take() {
            let (agent_id, epoch) = (heartbeat.agent_id, heartbeat.epoch);
            waits.push((agent_id, epoch, self.store.writer().enqueue(heartbeat).await?));
        }
        for (agent_id, epoch, wait) in waits {
            match wait.await {
                Err(StoreError::StaleEpoch) => self.close_stale(agent_id, epoch),
                stored => stored?,
            }
        }
        Ok(())
    }

    /// A session that the database has replaced, or whose agent is deleted, and that does not
    /// know.
    fn close_stale(&self, agent_id: AgentId, epoch: i64) {
        if let Some(session) = self.hub.session(agent_id)
            && session.epoch == epoch
        {
            session.close(CloseCode::SessionReplaced);
        }
    }

    /// Marks agents offline that the database calls online and nobody has heard of.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep_silent(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let silence_ms = self.settings.silence_ms();
        if now.ms_since(self.started_at) < silence_ms {
            // Agents of the server before this one are still on their way back.
            return Ok(());
        }
        for agent in self.store.system().silent_agents(now.minus_ms(silence_ms)).await? {
            if let Some(session) = self.hub.session(agent.id) {
                // It is there and only has no heartbeats to send.
                let operation = RecordHeartbeat {
                    agent_id: agent.id,
                    epoch: session.epoch,
                    telemetry: Telemetry::default(),
                    now,
                };
                match self.store.writer().commit(operation).await {
                    Err(StoreError::StaleEpoch) => self.close_stale(agent.id, session.epoch),
                    seen => seen?,
                }
                continue;
            }
            let operation = CloseSession {
                tenant_id: agent.tenant_id,
                agent_id: agent.id,
                epoch: agent.epoch,
                reason: "heartbeats_missed",
                now,
            };
            self.store.writer().commit(operation).await?;
        }
        Ok(())
    }

    /// Closes the sessions of keys that have expired, and of secrets whose grace is over.
    pub fn sweep_expired_keys(&self) {
        let now = self.clock.now();
        for session in self.hub.sessions() {
            if session.grant().expires_at.is_some_and(|at| at <= now) {
                session.close(CloseCode::KeyExpired);
            }
            if session.is_secret_over(now) {
                session.close(CloseCode::KeyRegenerated);
            }
        }
    }

    /// Drops what is older than it is kept.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn drop_old(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let retention = Retention {
            telemetry_before: now.minus_ms(TELEMETRY_MS),
            idempotency_before: now.minus_ms(IDEMPOTENCY_MS),
            history_before: now.minus_ms(self.settings.history_retention_ms),
            deliveries_before: now.minus_ms(self.settings.history_retention_ms.min(DELIVERIES_MS)),
        };
        let mut slices = 0;
        while self.store.system().drop_old(retention).await? && slices < MAX_SLICES {
            slices += 1;
        }
        if slices > 0 {
            tracing::info!(slices, "old history dropped");
        }
        Ok(())
    }

    /// Files a slice of what is new into the indexes of the history.
    ///
    /// # Errors
    /// [`StoreError`]; the next turn files it.
    pub async fn file_history(&self) -> Result<(), StoreError> {
        if self.store.system().has_unfiled().await? {
            self.store.writer().commit(IndexHistory { limit: FILED_AT_ONCE }).await?;
        }
        Ok(())
    }

    /// Keeps SQLite's log short.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        self.store.system().checkpoint().await
    }

    /// Asks the database for a sign of life, reading and writing.
    ///
    /// # Errors
    /// [`StoreError`] if it gives none.
    pub async fn check_database(&self) -> Result<(), StoreError> {
        self.store.system().ping().await
    }
}
