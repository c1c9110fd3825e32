//! The library: use cases of scripts and their versions. [`content`] finds what a request runs.

pub mod assignments;
mod changes;
pub mod content;
pub mod files;
pub mod packages;
mod request;
mod signatures;
mod starter;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use muster_protocol::library::{ScriptSignature, sha256_hex};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::request::{ScriptContentRequest, ScriptRequest};
pub use self::starter::StarterScript;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{PrincipalId, ScriptId};
use crate::domain::library::difference::unified;
use crate::domain::library::records::{ScriptRecord, ScriptVersionContent, ScriptVersionRecord};
use crate::domain::library::rules::{MAX_SEARCH_CHARS, check_folder};
use crate::domain::name::check_tags;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
pub use crate::store::queries::ScriptFilter;

/// Most scripts of one tenant.
pub const MAX_SCRIPTS: u64 = 1_000;
/// Most versions of one script.
pub const MAX_SCRIPT_VERSIONS: u32 = 1_000;
const UNKNOWN: ServiceError = ServiceError::NotFound("script");
const UNKNOWN_VERSION: ServiceError = ServiceError::NotFound("version of this script");

/// Use cases of the library.
#[derive(Clone, Debug)]
pub struct Library {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    /// What agents get of their assignments has changed.
    pub(in crate::services) assignments_changed: Arc<Notify>,
}

/// A script with what its current version runs.
#[derive(Debug, Clone)]
pub struct ScriptSnapshot {
    pub row: ScriptRecord,
    pub current: ScriptVersionRecord,
}

/// A version for people.
#[derive(Debug, Clone)]
pub struct VersionSnapshot {
    pub row: ScriptVersionRecord,
    pub document_sha256: String,
    /// Current name of its author.
    pub author_name: Option<String>,
    pub is_current: bool,
    /// Where one version was asked for.
    pub body: Option<String>,
    pub signatures: Vec<ScriptSignature>,
}

/// The difference between two versions.
#[derive(Debug, Clone)]
pub struct VersionDiff {
    pub from: u32,
    pub to: u32,
    /// Of the bodies; empty if they are equal.
    pub body: String,
    /// Of the documents, a field a line; empty if they are equal.
    pub document: String,
}

impl Library {
    /// One page of scripts, oldest first.
    ///
    /// # Errors
    /// 422 names the filter.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: ScriptFilter,
        page: PageRequest,
    ) -> Result<Page<ScriptSnapshot>> {
        caller.require(Scope::ScriptsRead)?;
        check_filter(&filter)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.scripts(&filter, page).await?;
        let page = Page::of(rows, page, |row| row.id.0);
        let ids = page.items.iter().map(|row| row.id).collect();
        let mut current: HashMap<ScriptId, ScriptVersionRecord> = tenant
            .current_versions(ids)
            .await?
            .into_iter()
            .map(|row| (row.script_id, ScriptVersionRecord::from(row)))
            .collect();
        // A script that was deleted between the two reads is left out.
        let items = page.items.into_iter().filter_map(|row| {
            let current = current.remove(&row.id)?;
            Some(ScriptSnapshot { row: row.into(), current })
        });
        Ok(Page { items: items.collect(), next_cursor: page.next_cursor })
    }

    /// One script.
    pub async fn get(&self, caller: &Caller, id: ScriptId) -> Result<ScriptSnapshot> {
        caller.require(Scope::ScriptsRead)?;
        let row = self.find(caller, id).await?;
        self.snapshot(caller, row).await
    }

    /// One page of a script's versions, newest first, without their bodies.
    pub async fn versions(
        &self,
        caller: &Caller,
        id: ScriptId,
        page: PageRequest,
    ) -> Result<Page<VersionSnapshot>> {
        caller.require(Scope::ScriptsRead)?;
        let script = self.find(caller, id).await?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.script_versions(id, page).await?;
        let page = Page::of(rows, page, |row| row.id.0);
        let snapshot = |row| VersionSnapshot::of(ScriptVersionRecord::from(row), &script);
        let mut page = page.map(snapshot);
        self.add_authors(caller, &mut page.items).await?;
        Ok(page)
    }

    /// One version with its body and its signatures.
    pub async fn version(
        &self,
        caller: &Caller,
        id: ScriptId,
        version: u32,
    ) -> Result<VersionSnapshot> {
        caller.require(Scope::ScriptsRead)?;
        let script = self.find(caller, id).await?;
        let found = self.find_version(caller, id, version).await?;
        let mut snapshot = VersionSnapshot::of(found.row, &script);
        snapshot.body = Some(found.body);
        snapshot.signatures = found.signatures;
        self.add_authors(caller, std::slice::from_mut(&mut snapshot)).await?;
        Ok(snapshot)
    }

    /// The difference between two versions of a script.
    pub async fn diff(
        &self,
        caller: &Caller,
        id: ScriptId,
        (from, to): (u32, u32),
    ) -> Result<VersionDiff> {
        caller.require(Scope::ScriptsRead)?;
        let name = self.find(caller, id).await?.name;
        let old = self.find_version(caller, id, from).await?;
        let new = self.find_version(caller, id, to).await?;
        let names = (format!("{name}@{from}"), format!("{name}@{to}"));
        let fields = |document: &str| -> String {
            let mut fields: Value = serde_json::from_str(document).unwrap_or_default();
            // They differ in every version.
            if let Some(fields) = fields.as_object_mut() {
                fields.remove("version");
                fields.remove("sha256");
            }
            serde_json::to_string_pretty(&fields).unwrap_or_default() + "\n"
        };
        let (old_fields, new_fields) = (fields(&old.row.document), fields(&new.row.document));
        // Large texts take a moment, which other requests must not wait for.
        let compare = move || VersionDiff {
            from,
            to,
            body: unified((&names.0, &old.body), (&names.1, &new.body)),
            document: unified((&names.0, &old_fields), (&names.1, &new_fields)),
        };
        let busy = |_| ServiceError::Busy {
            code: "server_busy",
            detail: "the diff was not finished; try again",
        };
        tokio::task::spawn_blocking(compare).await.map_err(busy)
    }

    async fn find(&self, caller: &Caller, id: ScriptId) -> Result<ScriptRecord> {
        let found = self.store.tenant(caller.principal.tenant_id).script(id).await?;
        Ok(found.ok_or(UNKNOWN)?.into())
    }

    async fn find_version(
        &self,
        caller: &Caller,
        id: ScriptId,
        version: u32,
    ) -> Result<ScriptVersionContent> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        tenant.script_version(id, version).await?.ok_or(UNKNOWN_VERSION)
    }

    async fn snapshot(&self, caller: &Caller, row: ScriptRecord) -> Result<ScriptSnapshot> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let current = tenant.current_versions(vec![row.id]).await?.pop().ok_or(UNKNOWN)?;
        Ok(ScriptSnapshot { row, current: current.into() })
    }

    async fn add_authors(&self, caller: &Caller, versions: &mut [VersionSnapshot]) -> Result<()> {
        let authors: BTreeSet<PrincipalId> =
            versions.iter().map(|version| version.row.author_id).collect();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let names = tenant.principal_names(authors).await?;
        for version in versions {
            version.author_name = names.get(&version.row.author_id).cloned();
        }
        Ok(())
    }
}

impl VersionSnapshot {
    fn of(row: ScriptVersionRecord, script: &ScriptRecord) -> Self {
        Self {
            document_sha256: sha256_hex(row.document.as_bytes()),
            author_name: None,
            is_current: script.current_version == row.version,
            body: None,
            signatures: Vec::new(),
            row,
        }
    }
}

fn check_filter(filter: &ScriptFilter) -> Result<()> {
    if let Some(folder) = &filter.folder {
        check_folder(folder).map_err(|problem| ServiceError::invalid_field("folder", problem))?;
    }
    if let Some(tag) = &filter.tag {
        check_tags(std::slice::from_ref(tag))
            .map_err(|_| ServiceError::invalid_field("tag", "must be a tag"))?;
    }
    let is_searchable =
        |text: &String| text.chars().count() <= MAX_SEARCH_CHARS && !text.contains('\0');
    if !filter.search.iter().chain(&filter.name).all(is_searchable) {
        return Err(ServiceError::invalid_field("search", "must be at most 128 characters"));
    }
    Ok(())
}

fn subject(id: ScriptId) -> Subject {
    Subject { kind: "script", id: id.0 }
}

/// What an audit entry records: which bytes, never the bytes.
fn detail(row: &ScriptRecord, document: &str) -> Value {
    json!({
        "name": row.name,
        "current_version": row.current_version,
        "latest_version": row.latest_version,
        "document_sha256": sha256_hex(document.as_bytes()),
    })
}
