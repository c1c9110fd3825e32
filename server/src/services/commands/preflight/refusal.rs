//! The sentence that refuses a request on behalf of hosts. What hosts say of themselves is cleaned and
//! cut: they are not trusted.

use std::collections::HashMap;

use muster_protocol::manifest::is_script_name;
use muster_protocol::manifest_mismatch::ManifestMismatch;

use super::{Asked, Mismatch, Preflight, Work};
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::name::clean;
use crate::services::error::{Result, ServiceError};

/// Hosts that a refusal names.
const SHOWN: usize = 3;
/// Longest reason of one host, in characters.
const MAX_REASON_CHARS: usize = 600;
/// How like a script's name another must be to be meant.
const LIKENESS: f64 = 0.8;
/// Given where hosts refuse for more than one reason.
const MIXED: &str = "hosts_would_refuse";

/// The hosts that would refuse.
#[derive(Default)]
pub(super) struct Refused {
    count: usize,
    code: &'static str,
    first: Vec<Mismatch>,
}

impl Refused {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, mismatch: Mismatch) {
        let code = mismatch.mismatch.code();
        self.code = if self.count == 0 || self.code == code { code } else { MIXED };
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(mismatch);
        }
    }
}

impl Preflight {
    pub(super) async fn refusal(
        &self,
        tenant_id: TenantId,
        refused: Refused,
        meant: usize,
        asked: Asked<'_>,
    ) -> Result<ServiceError> {
        let ids: Vec<_> = refused.first.iter().map(|mismatch| mismatch.host.agent_id).collect();
        let agents = self.store.tenant(tenant_id).agents_by_id(&ids).await?;
        let names: HashMap<AgentId, String> =
            agents.into_iter().map(|agent| (agent.id, agent.name)).collect();
        let mut reasons = Vec::with_capacity(SHOWN);
        for mismatch in &refused.first {
            let id = mismatch.host.agent_id;
            let name = names.get(&id).cloned().unwrap_or_else(|| id.to_string());
            let away = match mismatch.host.session {
                Some(_) => "",
                None => " (away, by the rules that it told last)",
            };
            let reason = self.reason(tenant_id, mismatch).await?;
            reasons.push(format!("{name}{away}: {}", clean(&reason, MAX_REASON_CHARS)));
        }
        let others = refused.count - reasons.len();
        let more = if others == 0 { String::new() } else { format!("; and {others} more") };
        let how_many = match (refused.count, meant) {
            (_, 1) => "the host would refuse this".to_owned(),
            (count, meant) if count == meant => format!("all {meant} hosts would refuse this"),
            (count, meant) => format!("{count} of {meant} hosts would refuse this"),
        };
        let hint = self.near_match(tenant_id, &refused, asked).await?;
        let detail = format!(
            "{how_many}: {}{more}{hint}. Nothing was sent; to leave it to the hosts, say \
             `\"on_mismatch\": \"send\"`",
            reasons.join("; ")
        );
        let code = refused.code;
        Ok(match refused.first.first().map(|mismatch| &mismatch.mismatch) {
            Some(ManifestMismatch::ArgvNotAllowed) => ServiceError::Conflict { code, detail },
            _ => ServiceError::Invalid { code, detail },
        })
    }

    /// What does not fit, and if a script is not listed, why the newest list is not in force.
    async fn reason(&self, tenant_id: TenantId, mismatch: &Mismatch) -> Result<String> {
        let reason = mismatch.mismatch.to_string();
        let ManifestMismatch::UnknownScript(_) = mismatch.mismatch else { return Ok(reason) };
        let error = match &mismatch.host.session {
            Some(_) => mismatch.host.rules.manifest_error.as_deref().map(str::to_owned),
            None => {
                let tenant = self.store.tenant(tenant_id);
                tenant.agent_manifest(mismatch.host.agent_id).await?.and_then(|row| row.error)
            }
        };
        Ok(match error {
            Some(error) => format!("{reason}; its newest version was refused: {error}"),
            None => reason,
        })
    }

    /// A script of the hosts that are named, of nearly the name that was asked for.
    async fn near_match(
        &self,
        tenant_id: TenantId,
        refused: &Refused,
        asked: Asked<'_>,
    ) -> Result<String> {
        let Work::Script { name, .. } = asked.work else { return Ok(String::new()) };
        let mut nearest: Option<(f64, String)> = None;
        for mismatch in &refused.first {
            let ManifestMismatch::UnknownScript(_) = mismatch.mismatch else { continue };
            let agent_id = mismatch.host.agent_id;
            let Some(digest) = mismatch.host.rules.manifest else { continue };
            let Some(list) = self.list(tenant_id, agent_id, digest).await? else { continue };
            for known in list.scripts.iter().map(|script| &script.name) {
                let likeness = strsim::jaro_winkler(known, name);
                let is_nearer = nearest.as_ref().is_none_or(|(nearest, _)| likeness > *nearest);
                if likeness >= LIKENESS && is_nearer && is_script_name(known) {
                    nearest = Some((likeness, known.clone()));
                }
            }
        }
        Ok(nearest.map_or_else(String::new, |(_, known)| format!(" (did you mean `{known}`?)")))
    }
}
