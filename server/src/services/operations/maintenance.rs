//! Periodic maintenance: deadlines, silent agents, retention.

use std::sync::Arc;

use muster_protocol::CloseCode;
use muster_protocol::frame::Telemetry;
use strum::IntoEnumIterator as _;

use crate::domain::access::tenants::plan::Plan;
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::Settings;
use crate::services::access::audit_log;
use crate::services::access::keys::key_uses::KeyUses;
use crate::services::certificates::authority::AuthorityError;
use crate::services::certificates::client_certificates::ClientCertificates;
use crate::services::library::files::FileLibrary;
use crate::services::library::packages::Packages;
use crate::services::sessions::Heartbeats;
use crate::store::queries::{Retention, TenantRetention};
use crate::store::writer::{CloseSession, IndexHistory, RecordHeartbeat};
use crate::store::{Store, StoreError};

/// How long telemetry is kept: 24 h.
const TELEMETRY_MS: u64 = 24 * 3_600_000;
/// How long finished webhook deliveries are kept: 30 days, or as long as history.
const DELIVERIES_MS: u64 = 30 * 24 * 3_600_000;
/// How long before its end a key is reported: 7 days.
const KEY_NOTICE_MS: u64 = 7 * 24 * 3_600_000;
/// Most slices of old history that one sweep deletes.
const MAX_SLICES: u32 = 2_000;
/// Commands that one run indexes, which blocks the writer for about 50 ms. If more commands than
/// this arrive each second, new ones wait in a separate index, and pages of the history get
/// shorter.
const INDEXED_AT_ONCE: u64 = 5_000;
/// How long idempotency keys are kept: 24 h.
const IDEMPOTENCY_MS: u64 = 24 * 3_600_000;

/// Maintenance sweeps. Each is bounded, and leaves the rest to the next.
#[derive(Clone, Debug)]
pub struct Maintenance {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    /// When this server started. Time before that does not count against agents.
    pub(in crate::services) started_at: Timestamp,
    pub(in crate::services) heartbeats: Heartbeats,
    pub(in crate::services) uses: KeyUses,
    pub(in crate::services) packages: Packages,
    pub(in crate::services) files: FileLibrary,
    pub(in crate::services) certificates: ClientCertificates,
}

impl Maintenance {
    /// Expires queued commands past their deadline.
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

    /// Marks commands as lost whose agents have been silent for too long.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep_lost(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let system = self.store.system();
        self.ended(
            system.mark_offline_lost(now, self.started_at).await?,
            "lost: the agent is offline",
        );
        self.ended(system.lose_unanswered(now).await?, "lost: the agent did not respond");
        Ok(())
    }

    fn ended(&self, commands: Vec<(CommandId, AgentId)>, why: &'static str) {
        if !commands.is_empty() {
            tracing::info!(commands = commands.len(), why, "ended overdue commands");
        }
        for (command_id, agent_id) in commands {
            self.hub.free_slot(agent_id, command_id);
            self.hub.notify_maybe_ended(command_id);
        }
    }

    /// Commits pending heartbeats in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; the heartbeats are dropped, and the next ones follow soon.
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

    /// Stores when secrets of API keys were last used.
    ///
    /// # Errors
    /// [`StoreError`]; the next run tries again.
    pub async fn store_key_uses(&self) -> Result<(), StoreError> {
        let uses = self.uses.take();
        if uses.is_empty() {
            return Ok(());
        }
        let stored = self.store.system().record_key_uses(uses.clone()).await;
        if stored.is_err() {
            self.uses.put_back(uses);
        }
        stored
    }

    /// A session that was replaced in the database, or whose agent was deleted, and that is still
    /// open.
    fn close_stale(&self, agent_id: AgentId, epoch: i64) {
        if let Some(session) = self.hub.session(agent_id)
            && session.epoch == epoch
        {
            session.close(CloseCode::SessionReplaced);
        }
    }

    /// Marks agents offline that the database has as online and that are silent.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep_silent(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let silence_ms = self.settings.silence_ms();
        if now.ms_since(self.started_at) < silence_ms {
            // Agents of the previous server may still be reconnecting.
            return Ok(());
        }
        for agent in self.store.system().silent_agents(now.minus_ms(silence_ms)).await? {
            if let Some(session) = self.hub.session(agent.id) {
                // It is connected and only has no heartbeats to send.
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

    /// Closes the sessions of expired keys, and of secrets whose grace period is over.
    pub fn sweep_expired_keys(&self) {
        self.hub.forget_old_rekeys();
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

    /// Follows a rollover of the authority by another process.
    ///
    /// # Errors
    /// [`StoreError`]; the next run tries again.
    pub async fn reload_authority(&self) -> Result<(), StoreError> {
        match self.certificates.reload_authority().await {
            Ok(()) => Ok(()),
            Err(AuthorityError::Store(error)) => Err(error),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "failed to read the authority again");
                Ok(())
            }
        }
    }

    /// Reports keys and certificates that expire soon, each once.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn report_expiring_keys(&self) -> Result<(), StoreError> {
        while self.store.system().report_expiring_keys(self.clock.now(), KEY_NOTICE_MS).await? > 0 {
        }
        while self.store.system().report_expiring_certificates(self.clock.now()).await? > 0 {}
        for (certificate, expires_at) in self.certificates.own_certificates() {
            let (system, now) = (self.store.system(), self.clock.now());
            if system.report_own_certificate(certificate, expires_at, now).await? {
                tracing::warn!(?certificate, %expires_at, "a certificate of this server ends soon");
            }
        }
        Ok(())
    }

    /// Deletes data past its retention.
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
        for plan in Plan::iter() {
            slices += self.drop_old_of_plan(plan, now).await?;
        }
        if slices > 0 {
            tracing::info!(slices, "deleted old history");
        }
        let audit_before = now.minus_ms(self.settings.audit_retention_ms);
        let parts = audit_log::retention::remove_old(&self.store, audit_before, now).await?;
        if parts > 0 {
            tracing::info!(parts, "removed old audit entries");
        }
        self.packages.sweep().await?;
        self.files.sweep().await
    }

    /// Deletes what the server keeps and a plan does not. The plan is read now, so a lower one also
    /// concerns what is there. Returns the number of slices.
    async fn drop_old_of_plan(&self, plan: Plan, now: Timestamp) -> Result<u32, StoreError> {
        let kept_ms = plan.history_ms(self.settings.history_retention_ms);
        if kept_ms >= self.settings.history_retention_ms {
            return Ok(0);
        }
        let system = self.store.system();
        let history_before = now.minus_ms(kept_ms);
        let deliveries_before = now.minus_ms(kept_ms.min(DELIVERIES_MS));
        let mut slices = 0;
        for tenant_id in system.tenants_with_old_history(plan, history_before).await? {
            let retention = TenantRetention {
                tenant_id,
                history_before,
                deliveries_before,
                hook_deliveries_before: history_before,
            };
            while slices < MAX_SLICES && system.drop_old_of_tenant(retention).await? {
                slices += 1;
            }
        }
        Ok(slices)
    }

    /// Adds a slice of new commands to the indexes of the history.
    ///
    /// # Errors
    /// [`StoreError`]; the next run indexes them.
    pub async fn file_history(&self) -> Result<(), StoreError> {
        if self.store.system().has_unindexed().await? {
            self.store.writer().commit(IndexHistory { limit: INDEXED_AT_ONCE }).await?;
        }
        Ok(())
    }

    /// Truncates SQLite's write-ahead log.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        self.store.system().checkpoint().await
    }
}
