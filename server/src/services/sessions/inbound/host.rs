//! Frames about the host: heartbeats, manifest and inventory.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::frame::{Heartbeat, InventoryItem, ServerFrame, Telemetry};
use muster_protocol::limits::MAX_INVENTORY_PAGE;
use muster_protocol::manifest::Manifest;
use tokio::time::Instant;

use super::MAX_ERROR_CHARS;
use crate::domain::fleet::forbidden_commands::ForbiddenCommands;
use crate::domain::fleet::reported_manifest::{ManifestDigest, ReportedManifest};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::hub::HostRules;
use crate::services::sessions::live::{CommitAck, LiveSession, VIOLATION};
use crate::services::sessions::{AgentTransport, SessionEnd};
use crate::store::entities::fleet::agent_manifest;
use crate::store::writer::{
    Listed, ManifestSize, Reconcile, RecordHeartbeat, RecordManifest, RecordedManifest,
};

/// Most commands of one inventory.
const MAX_INVENTORY: usize = 20_000;
/// Heartbeats that follow each other faster are acknowledged but not stored.
const HEARTBEAT_STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two changed manifests of one session. The agent is not read meanwhile.
const MANIFEST_STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Most that all manifests of a tenant may come to: 100,000 agents with 20 scripts of 1 KiB each.
const TENANT_MANIFESTS: ManifestSize =
    ManifestSize { bytes: MAX_TENANT_MANIFEST_BYTES, scripts: MAX_TENANT_SCRIPTS };
const MAX_TENANT_MANIFEST_BYTES: i64 = 2 * 1024 * 1024 * 1024;
const MAX_TENANT_SCRIPTS: i64 = 2_000_000;
/// Longest stored name of a policy, in characters.
const MAX_POLICY_CHARS: usize = 64;

/// The policy in a manifest frame.
pub(super) struct ReportedPolicy {
    pub allow: Option<String>,
    pub forbidden_commands: Vec<String>,
}

impl LiveSession {
    pub(super) async fn heartbeat<T: AgentTransport>(
        &mut self,
        heartbeat: &Heartbeat,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let now = self.service.clock.now();
        let is_due = self
            .inbound
            .heartbeat_stored_at
            .is_none_or(|at| at.elapsed() >= HEARTBEAT_STORE_INTERVAL);
        if is_due {
            self.inbound.heartbeat_stored_at = Some(Instant::now());
            self.service.heartbeats.add(RecordHeartbeat {
                agent_id: self.handle.agent_id,
                epoch: self.handle.epoch,
                telemetry: Telemetry::from_status(&heartbeat.status),
                now,
            });
        }
        self.renew_certificate();
        self.send_notice(transport).await?;
        let ack = ServerFrame::HeartbeatAck { timestamp: now.to_string() };
        Ok(transport.feed(&ack).await?)
    }

    pub(super) async fn manifest(
        &mut self,
        manifest: Manifest,
        error: Option<String>,
        policy: ReportedPolicy,
    ) -> Result<(), SessionEnd> {
        let agent_id = self.handle.agent_id;
        let (ReportedManifest { manifest, text }, error) = match ReportedManifest::accept(manifest)
        {
            Ok(accepted) => (accepted, error),
            Err(reason) => {
                let reason = format!("the server does not use the reported manifest: {reason}");
                (ReportedManifest::none(), Some(reason))
            }
        };
        let digest = ManifestDigest::of(&text);
        let forbidden = ForbiddenCommands::reported(&policy.forbidden_commands);
        let policy = policy.allow.map(|policy| clean(&policy, MAX_POLICY_CHARS));
        let policy: Option<Arc<str>> = policy.map(Into::into);
        // An agent without a policy in this frame sent it with `register`.
        let known = self.handle.rules.get().policy;
        let error = error.map(|text| clean(&text, MAX_ERROR_CHARS));
        let rules = HostRules {
            manifest: Some(digest),
            manifest_error: error.as_deref().map(Into::into),
            policy: policy.or_else(|| known.clone()),
            forbidden: forbidden.clone(),
        };
        // The host may report the same again, as often as it likes.
        if self.inbound.manifest_stored_at.is_some() && self.handle.rules.get() == rules {
            return Ok(());
        }
        self.wait_to_store_manifest().await;
        let manifest_scripts = manifest.scripts.len() as i64;
        self.service.manifests.insert(digest, manifest);
        let new_policy = rules.policy.clone().filter(|policy| Some(policy) != known.as_ref());
        self.handle.rules.replace(rules);
        let now = self.service.clock.now();
        let row = agent_manifest::Model {
            agent_id,
            size_bytes: text.len() as i64,
            script_count: manifest_scripts,
            manifest: text,
            digest: Some(digest.0.to_vec()),
            error,
            forbidden_commands: forbidden.to_stored(),
            reported_at: now,
            in_force_since: now,
        };
        let (refused, refused_rules) = refused(&row, &self.handle.rules.get());
        let operation = RecordManifest {
            tenant_id: self.handle.tenant_id,
            agent_id,
            refused,
            limit: TENANT_MANIFESTS,
            epoch: self.handle.epoch,
            row,
            new_policy: new_policy.map(|policy| policy.to_string()),
        };
        let stored = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        let (cache, handle) = (self.service.cache.clone(), Arc::clone(&self.handle));
        let hub = Arc::clone(&self.service.hub);
        self.pending.push_back(Box::pin(async move {
            let RecordedManifest { is_refused, changed } = stored.await?;
            if is_refused {
                tracing::warn!(%agent_id, "the manifests of a tenant are as large as they may be; refused another one");
                handle.rules.replace(refused_rules);
            }
            cache.forget_agent(agent_id);
            if let Some(in_force) = changed {
                hub.notify_manifest(&handle, in_force);
            }
            Ok(CommitAck::None)
        }));
        Ok(())
    }

    /// Delays an agent that reports one changed manifest after another.
    async fn wait_to_store_manifest(&mut self) {
        if let Some(stored_at) = self.inbound.manifest_stored_at {
            tokio::time::sleep_until(stored_at + MANIFEST_STORE_INTERVAL).await;
        }
        self.inbound.manifest_stored_at = Some(Instant::now());
    }

    pub(super) fn inventory(&mut self, items: &[InventoryItem]) -> Result<(), SessionEnd> {
        let listed = self.inbound.inventory.as_mut().ok_or(VIOLATION)?;
        if items.len() > MAX_INVENTORY_PAGE || listed.len() + items.len() > MAX_INVENTORY {
            return Err(VIOLATION);
        }
        listed.extend(
            items
                .iter()
                .map(|item| Listed { command_id: CommandId(item.command_id), state: item.state }),
        );
        Ok(())
    }

    pub(super) async fn inventory_end(&mut self) -> Result<(), SessionEnd> {
        let listed = self.inbound.inventory.take().ok_or(VIOLATION)?;
        self.store_announced_runs().await?;
        let operation = Reconcile {
            agent_id: self.handle.agent_id,
            epoch: self.handle.epoch,
            listed,
            now: self.service.clock.now(),
        };
        let done = self.service.store.writer().enqueue(operation).await.map_err(|_| VIOLATION)?;
        self.pending.push_back(Box::pin(async move { Ok(CommitAck::Reconciled(done.await?)) }));
        Ok(())
    }
}

/// What is stored of a manifest for which its tenant has no room, and what then counts as the rules
/// of its host.
fn refused(row: &agent_manifest::Model, rules: &HostRules) -> (agent_manifest::Model, HostRules) {
    const REASON: &str = "the server does not use the reported manifest: the manifests of all agents are as large as they may be together";
    let ReportedManifest { text, .. } = ReportedManifest::none();
    let digest = ManifestDigest::of(&text);
    let rules = HostRules {
        manifest: Some(digest),
        manifest_error: Some(REASON.into()),
        policy: rules.policy.clone(),
        forbidden: rules.forbidden.clone(),
    };
    let row = agent_manifest::Model {
        size_bytes: text.len() as i64,
        script_count: 0,
        manifest: text,
        digest: Some(digest.0.to_vec()),
        error: Some(REASON.to_owned()),
        ..row.clone()
    };
    (row, rules)
}
