//! The error for a request that hosts would refuse. Texts that hosts reported are cleaned and
//! truncated, because hosts are not trusted.

use std::collections::HashMap;

use muster_protocol::manifest::{ManifestMismatch, is_script_name};

use super::{Executable, HostMismatch, Preflight, PreflightRequest};
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::name::clean;
use crate::services::error::{Result, ServiceError};

/// Most hosts that the error names.
const SHOWN: usize = 3;
/// Longest reason of one host, in characters.
const MAX_REASON_CHARS: usize = 600;
/// Lowest similarity of two script names for a hint.
const MIN_SIMILARITY: f64 = 0.8;
/// Code of the error if hosts refuse for different reasons.
const MIXED_CODE: &str = "hosts_would_refuse";

/// The hosts that would refuse: their number, and the first ones.
pub(super) struct HostMismatches {
    count: usize,
    code: &'static str,
    first: Vec<HostMismatch>,
    /// All of them, if the caller needs all.
    all: Option<HashMap<AgentId, ManifestMismatch>>,
}

impl HostMismatches {
    pub(super) fn new(is_exhaustive: bool) -> Self {
        let all = is_exhaustive.then(HashMap::new);
        Self { count: 0, code: "", first: Vec::new(), all }
    }

    pub(super) fn is_exhaustive(&self) -> bool {
        self.all.is_some()
    }

    /// True while further hosts must be checked.
    pub(super) fn needs_more(&self) -> bool {
        self.is_empty() || self.is_exhaustive()
    }

    pub(super) fn into_all(self) -> HashMap<AgentId, ManifestMismatch> {
        self.all.unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, mismatch: HostMismatch) {
        let code = mismatch.mismatch.code();
        self.code = if self.count == 0 || self.code == code { code } else { MIXED_CODE };
        self.count += 1;
        if let Some(all) = &mut self.all {
            all.insert(mismatch.host.agent_id, mismatch.mismatch.clone());
        }
        if self.first.len() < SHOWN {
            self.first.push(mismatch);
        }
    }
}

impl Preflight {
    pub(super) async fn refusal(
        &self,
        tenant_id: TenantId,
        mismatches: HostMismatches,
        target_count: usize,
        request: PreflightRequest<'_>,
    ) -> Result<ServiceError> {
        let ids: Vec<_> = mismatches.first.iter().map(|mismatch| mismatch.host.agent_id).collect();
        let agents = self.store.tenant(tenant_id).agents_by_id(&ids).await?;
        let names: HashMap<AgentId, String> =
            agents.into_iter().map(|agent| (agent.id, agent.name)).collect();
        let mut reasons = Vec::with_capacity(SHOWN);
        let mut last = String::new();
        for mismatch in &mismatches.first {
            let id = mismatch.host.agent_id;
            let name = names.get(&id).cloned().unwrap_or_else(|| id.to_string());
            let note = match mismatch.host.session {
                Some(_) => "",
                None => " (offline, by its last report)",
            };
            let reason = self.reason(tenant_id, mismatch).await?;
            let reason = clean(&reason, MAX_REASON_CHARS);
            // The only host of the request is the subject of the summary.
            reasons.push(match target_count {
                1 => reason,
                _ => format!("{name}{note}: {reason}"),
            });
            last = format!("{name}{note}");
        }
        let others = mismatches.count - reasons.len();
        let more = if others == 0 { String::new() } else { format!("; and {others} more") };
        let summary = match (mismatches.count, target_count) {
            (_, 1) => format!("{last} would refuse this"),
            (count, target_count) if count == target_count => {
                format!("all {target_count} hosts would refuse this")
            }
            (count, target_count) => format!("{count} of {target_count} hosts would refuse this"),
        };
        let hint = self.near_match(tenant_id, &mismatches, request).await?;
        let detail = format!("{summary}: {}{more}{hint}. Nothing was sent", reasons.join("; "));
        let code = mismatches.code;
        Ok(match mismatches.first.first().map(|first| first.mismatch.of_any_step()) {
            Some(
                ManifestMismatch::ArgvNotAllowed
                | ManifestMismatch::LibraryNotAllowed
                | ManifestMismatch::LibraryUnsupported
                | ManifestMismatch::PackagesUnsupported
                | ManifestMismatch::FilesUnsupported
                | ManifestMismatch::StepsUnsupported,
            ) => ServiceError::Conflict { code, detail },
            _ => ServiceError::Invalid { code, detail },
        })
    }

    /// The mismatch of one host. For an unknown script it adds why a newer manifest is not in force.
    async fn reason(&self, tenant_id: TenantId, mismatch: &HostMismatch) -> Result<String> {
        let reason = mismatch.mismatch.to_string();
        let ManifestMismatch::UnknownScript(_) = mismatch.mismatch.of_any_step() else {
            return Ok(reason);
        };
        let error = match &mismatch.host.session {
            Some(_) => mismatch.host.rules.manifest_error.as_deref().map(str::to_owned),
            None => {
                let tenant = self.store.tenant(tenant_id);
                tenant.agent_manifest(mismatch.host.agent_id).await?.and_then(|row| row.error)
            }
        };
        Ok(match error {
            Some(error) => format!("{reason}; the host refused its newer manifest: {error}"),
            None => reason,
        })
    }

    /// A hint to a script of the named hosts with a similar name.
    async fn near_match(
        &self,
        tenant_id: TenantId,
        mismatches: &HostMismatches,
        request: PreflightRequest<'_>,
    ) -> Result<String> {
        let (Executable::Script { name, .. } | Executable::NamedScript(name)) = request.executable
        else {
            return Ok(String::new());
        };
        let mut nearest: Option<(f64, String)> = None;
        for mismatch in &mismatches.first {
            let ManifestMismatch::UnknownScript(_) = mismatch.mismatch else { continue };
            let agent_id = mismatch.host.agent_id;
            let Some(digest) = mismatch.host.rules.manifest else { continue };
            let Some(manifest) = self.manifest(tenant_id, agent_id, digest).await? else {
                continue;
            };
            for known in manifest.scripts.iter().map(|script| &script.name) {
                let similarity = strsim::jaro_winkler(known, name);
                let is_nearer = nearest.as_ref().is_none_or(|(nearest, _)| similarity > *nearest);
                if similarity >= MIN_SIMILARITY && is_nearer && is_script_name(known) {
                    nearest = Some((similarity, known.clone()));
                }
            }
        }
        Ok(nearest.map_or_else(String::new, |(_, known)| format!(" (did you mean `{known}`?)")))
    }
}
