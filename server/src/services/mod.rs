//! Use cases: one a method. Each authorises, makes one transaction, wakes; none calls another.

pub mod agent_keys;
pub mod agents;
pub mod api_keys;
pub mod audit_log;
pub mod authentication;
pub mod caller;
pub mod changes;
pub mod commands;
pub mod dispatch;
pub mod error;
mod heartbeats;
pub mod installation;
pub mod jobs;
pub mod keeping;
mod key_cache;
pub mod output;
mod presence;
mod secret_parameters;
pub mod sessions;
pub mod targets;
pub mod unlocking;
pub mod upkeep;

use std::sync::Arc;

use muster_protocol::limits::MISSED_HEARTBEATS;

use self::heartbeats::Heartbeats;
use self::key_cache::KeyCache;
use crate::adapters::program_files::ProgramFiles;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::store::Store;

/// What operators may set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub heartbeat_interval_ms: u64,
    pub lost_after_ms: u64,
    pub history_retention_ms: u64,
}

impl Settings {
    /// After this silence an agent is offline.
    pub fn silence_ms(self) -> u64 {
        self.heartbeat_interval_ms.saturating_mul(u64::from(MISSED_HEARTBEATS))
    }
}

/// Every use case of the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    pub authentication: authentication::Authentication,
    pub agent_keys: agent_keys::AgentKeys,
    pub api_keys: api_keys::ApiKeys,
    pub agents: agents::Agents,
    pub audit_log: audit_log::AuditLog,
    pub changes: changes::Changes,
    pub commands: commands::Commands,
    pub dispatch: dispatch::Dispatch,
    pub installation: installation::Installation,
    pub jobs: jobs::Jobs,
    pub keeping: keeping::Keeping,
    pub output: output::Output,
    pub sessions: Arc<sessions::Sessions>,
    pub targets: targets::Targets,
    pub upkeep: upkeep::Upkeep,
}

impl Services {
    /// All use cases over one store and one hub.
    pub fn new(
        store: &Store,
        hub: &Arc<Hub>,
        clock: &Clock,
        secret_box: &SecretBox,
        files: ProgramFiles,
        settings: Settings,
    ) -> Self {
        let (cache, heartbeats) = (KeyCache::default(), Heartbeats::default());
        let (store, hub, clock) = (|| store.clone(), || Arc::clone(hub), || clock.clone());
        let presence = presence::Presence {
            hub: hub(),
            clock: clock(),
            started_at: clock().now(),
            silence_ms: settings.silence_ms(),
        };
        Self {
            authentication: authentication::Authentication {
                store: store(),
                cache: cache.clone(),
                clock: clock(),
            },
            agent_keys: agent_keys::AgentKeys {
                store: store(),
                hub: hub(),
                cache: cache.clone(),
                clock: clock(),
                turn: Arc::default(),
            },
            api_keys: api_keys::ApiKeys { store: store(), cache: cache.clone(), clock: clock() },
            agents: agents::Agents {
                store: store(),
                hub: hub(),
                clock: clock(),
                cache: cache.clone(),
            },
            audit_log: audit_log::AuditLog { store: store() },
            changes: changes::Changes { store: store(), hub: hub() },
            commands: commands::Commands {
                store: store(),
                hub: hub(),
                clock: clock(),
                settings,
                cache: cache.clone(),
                secret_box: secret_box.clone(),
            },
            dispatch: dispatch::Dispatch {
                store: store(),
                hub: hub(),
                clock: clock(),
                secret_box: secret_box.clone(),
            },
            installation: installation::Installation { files: Arc::new(files) },
            jobs: jobs::Jobs {
                store: store(),
                hub: hub(),
                clock: clock(),
                settings,
                secret_box: secret_box.clone(),
                presence: presence.clone(),
            },
            keeping: keeping::Keeping {
                store: store(),
                hub: hub(),
                clock: clock(),
                settings,
                presence,
            },
            output: output::Output { store: store(), hub: hub() },
            sessions: Arc::new(sessions::Sessions::new(
                store(),
                hub(),
                clock(),
                settings,
                heartbeats.clone(),
                cache,
            )),
            targets: targets::Targets { store: store(), hub: hub() },
            upkeep: upkeep::Upkeep {
                store: store(),
                hub: hub(),
                started_at: clock().now(),
                clock: clock(),
                settings,
                heartbeats,
            },
        }
    }
}
