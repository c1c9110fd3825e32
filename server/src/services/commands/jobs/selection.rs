//! Which agents of a job's target are skipped, and which refuse it as a whole.

use std::collections::{HashMap, HashSet};

use muster_protocol::manifest::ManifestMismatch;

use super::{JobRequest, Jobs};
use crate::domain::commands::command_state::EndReason;
use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::name::clean;
use crate::services::access::caller::Caller;
use crate::services::commands::preflight::{OnMismatch, PreflightHost};
use crate::services::commands::request::ValidatedCommand;
use crate::services::error::{Result, ServiceError};

/// Most agents that a refusal names.
const SHOWN: usize = 3;
/// Longest name in a refusal, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Skipped agents, with the reason.
pub(super) type SkippedAgents = HashMap<AgentId, EndReason>;

impl JobRequest {
    /// What to do about offline agents.
    ///
    /// # Errors
    /// 422 if the rollout decides it too.
    pub(super) fn valid_offline(&self) -> Result<OfflinePolicy> {
        if self.rollout.is_some() && self.offline == OfflinePolicy::Skip {
            let problem = "of a rollout is set in `rollout.offline`";
            return Err(ServiceError::conflicting("offline", "rollout.offline", problem));
        }
        Ok(self.offline)
    }
}

/// Why a host that would refuse is skipped.
pub(super) fn skip_reason(mismatch: &ManifestMismatch) -> EndReason {
    match mismatch.of_any_step() {
        ManifestMismatch::UnknownScript(_) => EndReason::SkippedUnknownScript,
        ManifestMismatch::ArgvNotAllowed => EndReason::SkippedArgvNotAllowed,
        ManifestMismatch::LibraryNotAllowed
        | ManifestMismatch::LibraryUnsupported
        | ManifestMismatch::PackagesUnsupported => EndReason::SkippedLibraryNotAllowed,
        ManifestMismatch::FilesUnsupported => EndReason::SkippedFilesUnsupported,
        ManifestMismatch::StepsUnsupported => EndReason::SkippedStepsUnsupported,
        ManifestMismatch::StdinNotAllowed(_) | ManifestMismatch::LibraryStdin => {
            EndReason::SkippedStdinNotAllowed
        }
        ManifestMismatch::Parameters(_)
        | ManifestMismatch::Argv(_)
        | ManifestMismatch::Step(..) => EndReason::SkippedInvalidParameters,
    }
}

impl Jobs {
    /// Agents of a new job that are skipped.
    ///
    /// # Errors
    /// The refusal of the preflight; 409 `agents_offline`; 422 `all_agents_skipped`.
    pub(super) async fn skipped_agents(
        &self,
        caller: &Caller,
        known: &[Facts],
        hosts: Vec<PreflightHost>,
        validated: &ValidatedCommand,
        offline: OfflinePolicy,
    ) -> Result<SkippedAgents> {
        let tenant_id = caller.principal.tenant_id;
        let mut skipped = SkippedAgents::new();
        let gone = self.agents_without_key(tenant_id, known).await?;
        skipped.extend(gone.into_iter().map(|id| (id, EndReason::SkippedKeyDeleted)));
        if let Some(request) = validated.preflight_request() {
            if validated.on_mismatch == OnMismatch::Skip {
                let mismatches = self.preflight.mismatches(tenant_id, hosts, request).await?;
                for (id, found) in &mismatches {
                    skipped.entry(*id).or_insert_with(|| skip_reason(found));
                }
            } else {
                self.preflight.check(tenant_id, hosts, known.len(), request).await?;
            }
        }
        if offline != OfflinePolicy::Wait {
            let mut away = self.offline_agents(known).await?;
            away.retain(|agent| !skipped.contains_key(&agent.id));
            if offline == OfflinePolicy::Fail && !away.is_empty() {
                return Err(agents_offline(&away, known.len()));
            }
            for agent in away {
                skipped.entry(agent.id).or_insert(EndReason::SkippedOffline);
            }
        }
        if skipped.len() == known.len() {
            return Err(all_skipped(&skipped));
        }
        Ok(skipped)
    }

    /// Those of the agents whose key was deleted: they never connect again.
    pub(super) async fn agents_without_key(
        &self,
        tenant_id: TenantId,
        known: &[Facts],
    ) -> Result<HashSet<AgentId>> {
        // An agent that is connected has one.
        let ids = known.iter().map(|agent| agent.id).filter(|id| !self.hub.is_connected(*id));
        let tenant = self.store.tenant(tenant_id);
        Ok(tenant.agents_without_key(&ids.collect::<Vec<_>>()).await?)
    }

    /// Those of the agents that count as offline.
    pub(super) async fn offline_agents<'a>(&self, known: &'a [Facts]) -> Result<Vec<&'a Facts>> {
        let ids: Vec<AgentId> = known.iter().map(|agent| agent.id).collect();
        let online = self.store.system().online_agents(&ids).await?;
        let is_online = |id: AgentId| self.presence.is_online(id, online.get(&id).copied());
        Ok(known.iter().filter(|agent| !is_online(agent.id)).collect())
    }
}

fn agents_offline(away: &[&Facts], count: usize) -> ServiceError {
    let shown = away.iter().take(SHOWN).map(|agent| clean(&agent.name, MAX_NAME_CHARS));
    let shown: Vec<_> = shown.collect();
    let others = away.len().saturating_sub(SHOWN);
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    ServiceError::Conflict {
        code: "agents_offline",
        detail: format!(
            "{} of {count} {}: {}{more}. Nothing was sent",
            away.len(),
            if count == 1 { "agent is offline" } else { "agents are offline" },
            shown.join(", ")
        ),
    }
}

fn all_skipped(skipped: &SkippedAgents) -> ServiceError {
    let offline = skipped.values().filter(|reason| **reason == EndReason::SkippedOffline).count();
    ServiceError::Invalid {
        code: "all_agents_skipped",
        detail: format!(
            "every agent of the target would be skipped: {offline} offline, {} whose host would refuse \
             it. Nothing was sent",
            skipped.len() - offline
        ),
    }
}
