//! What hosts report about the scripts of a request: approvals are about exactly that.

use std::collections::HashMap;
use std::sync::Arc;

use muster_protocol::commands::file_transfer::FileOperation;
use muster_protocol::commands::step::parts_of;
use muster_protocol::library::LIBRARY_PREFIX;
use muster_protocol::package::PACKAGE_PREFIX;
use serde_json::json;

use super::{Preflight, ScriptEntry};
use crate::domain::fleet::reported_manifest::ManifestDigest;
use crate::domain::ids::{AgentId, TenantId};
use crate::services::error::Result;
use crate::services::library::content::{pinned_text, steps_of};

/// By agent.
pub(in crate::services) type ScriptEntries = HashMap<AgentId, Arc<ScriptEntry>>;

impl Preflight {
    /// The entry of a script in the manifest of each host that reported one. For a script of the library,
    /// the version that the data (JSON) of the request pins, which is the same for all. Of steps: all of their
    /// entries as one.
    pub async fn script_entries(
        &self,
        tenant_id: TenantId,
        agents: &[AgentId],
        name: &str,
        data: &str,
    ) -> Result<ScriptEntries> {
        if parts_of(name).is_none() {
            return self.entries_of_one(tenant_id, agents, name, data).await;
        }
        let mut of_steps: Vec<ScriptEntries> = Vec::new();
        for step in steps_of(data) {
            of_steps.push(match step.script.clone() {
                Some(script) => {
                    let data = step.into_data();
                    self.entries_of_one(tenant_id, agents, &script, &data).await?
                }
                None => ScriptEntries::new(),
            });
        }
        let merged = agents.iter().filter_map(|id| {
            let entries: Vec<_> = of_steps.iter().map(|step| step.get(id)).collect();
            if entries.iter().all(Option::is_none) {
                return None;
            }
            let texts: Vec<_> =
                entries.iter().map(|entry| entry.map(|entry| entry.text.as_str())).collect();
            let step_sha256 =
                entries.iter().map(|entry| entry.and_then(|entry| entry.sha256.clone()));
            let step_sha256 = step_sha256.collect();
            let entry = ScriptEntry { text: json!(texts).to_string(), sha256: None, step_sha256 };
            Some((*id, Arc::new(entry)))
        });
        Ok(merged.collect())
    }

    async fn entries_of_one(
        &self,
        tenant_id: TenantId,
        agents: &[AgentId],
        name: &str,
        data: &str,
    ) -> Result<ScriptEntries> {
        if name.starts_with(LIBRARY_PREFIX) || name.starts_with(PACKAGE_PREFIX) {
            let Some((text, sha256)) = pinned_text(data) else { return Ok(HashMap::new()) };
            let (sha256, step_sha256) = (Some(sha256), Vec::new());
            let entry = Arc::new(ScriptEntry { text, sha256, step_sha256 });
            return Ok(agents.iter().map(|id| (*id, Arc::clone(&entry))).collect());
        }
        if FileOperation::of(name).is_some() {
            return Ok(HashMap::new());
        }
        let mut known: HashMap<ManifestDigest, Option<Arc<ScriptEntry>>> = HashMap::new();
        let mut entries = HashMap::new();
        for host in self.hosts(tenant_id, agents).await? {
            let Some(digest) = host.rules.manifest else { continue };
            let entry = match known.get(&digest) {
                Some(entry) => entry.clone(),
                None => {
                    let manifest = self.manifest(tenant_id, host.agent_id, digest).await?;
                    let script = manifest.and_then(|manifest| manifest.script(name).cloned());
                    let entry = script.map(|script| Arc::new(ScriptEntry::from(script)));
                    known.insert(digest, entry.clone());
                    entry
                }
            };
            if let Some(entry) = entry {
                entries.insert(host.agent_id, entry);
            }
        }
        Ok(entries)
    }
}
