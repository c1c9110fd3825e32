//! What a job would do on each agent of its target. Stores and sends nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use muster_protocol::CommandName;
use muster_protocol::manifest::ManifestMismatch;

use super::submission::resolve_agents;
use super::{JobRequest, Jobs};
use crate::domain::access::principal::Scope;
use crate::domain::commands::end_reason::EndReason;
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::commands::preview::PreviewDecision;
use crate::domain::commands::rollout::Offline;
use crate::domain::fleet::target::Target;
use crate::domain::ids::AgentId;
use crate::domain::name::clean;
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::Clearance;
use crate::services::commands::preflight::OnMismatch;
use crate::services::error::Result;

/// Most agents that a preview lists.
pub const MAX_PREVIEWED_AGENTS: usize = 500;
/// Longest reason of one host, in characters.
const MAX_REASON_CHARS: usize = 600;

/// What a job would do.
#[derive(Debug, Clone)]
pub struct JobPreview {
    /// Agents by what would happen there.
    pub counts: BTreeMap<PreviewDecision, u64>,
    /// Those that need attention first, then by name.
    pub agents: Vec<AgentPreview>,
    /// False if the request would be refused as it is.
    pub would_start: bool,
    /// It would wait for another person's approval first.
    pub needs_approval: bool,
}

/// What a job would do on one agent.
#[derive(Debug, Clone)]
pub struct AgentPreview {
    pub id: AgentId,
    pub name: String,
    pub is_online: bool,
    pub decision: PreviewDecision,
    /// Why its host would refuse.
    pub reason: Option<String>,
}

impl Jobs {
    /// Previews a job: which agents would run it, wait, be skipped or refuse.
    ///
    /// # Errors
    /// As [`Jobs::submit`], but for refusals of hosts and offline agents, which the preview shows.
    pub async fn preview(&self, caller: &Caller, request: JobRequest) -> Result<JobPreview> {
        caller.require(Scope::CommandsRun)?;
        caller.require(Scope::AgentsRead)?;
        let _permit = self.limiter.acquire(caller.principal.id)?;
        let target = Target::try_from(request.target.clone())?;
        request.valid_rollout()?;
        request.run_options()?;
        let skips_offline_wave =
            request.rollout.as_ref().is_some_and(|spec| spec.offline == Some(Offline::Skip));
        let offline = match request.valid_offline()? {
            _ if skips_offline_wave => OfflinePolicy::Skip,
            offline => offline,
        };
        let validated = request.into_command().validate(CommandName::Execute);
        let validated = validated.map_err(|error| error.moved("data.", ""))?;
        validated.check_scope(caller)?;
        let read = resolve_agents(&self.store, &self.hub, caller, &target);
        let known = self.limiter.with_read_permit(read).await?;
        let ids: Vec<AgentId> = known.iter().map(|agent| agent.id).collect();
        let confirmation = Some(Confirmation::Exactly(ids.len() as u64));
        let clearance = self.guard.check(caller, validated.kind(), &ids, confirmation).await?;
        let tenant_id = caller.principal.tenant_id;
        let hosts = self.preflight.hosts(tenant_id, &ids).await?;
        let mismatches: HashMap<AgentId, ManifestMismatch> = match validated.preflight_request() {
            Some(request) => self.preflight.mismatches(tenant_id, hosts, request).await?,
            None => HashMap::new(),
        };
        let gone = self.agents_without_key(tenant_id, &known).await?;
        let away: HashSet<AgentId> =
            self.offline_agents(&known).await?.into_iter().map(|agent| agent.id).collect();
        let mut counts: BTreeMap<PreviewDecision, u64> = BTreeMap::new();
        let mut agents: Vec<AgentPreview> = Vec::with_capacity(known.len());
        for agent in known {
            let mismatch = mismatches.get(&agent.id);
            let is_online = !away.contains(&agent.id);
            let skips_mismatch = validated.on_mismatch == OnMismatch::Skip;
            let has_no_key = gone.contains(&agent.id);
            let decision = match has_no_key {
                true => PreviewDecision::Skip,
                false => {
                    PreviewDecision::of(mismatch.is_some(), skips_mismatch, is_online, offline)
                }
            };
            *counts.entry(decision).or_default() += 1;
            let reason = mismatch.map(|found| clean(&found.to_string(), MAX_REASON_CHARS));
            let reason = match has_no_key {
                true => Some(EndReason::SkippedKeyDeleted.sentence().to_owned()),
                false => reason,
            };
            agents.push(AgentPreview {
                id: agent.id,
                name: agent.name,
                is_online,
                decision,
                reason,
            });
        }
        let count = |decision| counts.get(&decision).copied().unwrap_or_default();
        let refused = count(PreviewDecision::Refuse) > 0
            && validated.on_mismatch == OnMismatch::Refuse
            || count(PreviewDecision::Wait) > 0 && offline == OfflinePolicy::Fail;
        let would_start = !refused && count(PreviewDecision::Skip) < agents.len() as u64;
        agents.sort_by(|one, other| (one.decision, &one.name).cmp(&(other.decision, &other.name)));
        agents.truncate(MAX_PREVIEWED_AGENTS);
        let needs_approval = matches!(clearance, Clearance::NeedsApproval(_));
        Ok(JobPreview { counts, agents, would_start, needs_approval })
    }
}
