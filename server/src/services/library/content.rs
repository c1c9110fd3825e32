//! Finds what a request runs, and reads it again for hosts that get it later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_protocol::library::{
    LibraryReference, ScriptContent, ScriptDocument, ScriptPin, sha256_hex,
};
use serde::Deserialize;
use serde_json::Value;

use super::Library;
use crate::domain::ids::TenantId;
use crate::domain::library::records::ScriptVersionContent;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;

/// The version that a request runs.
pub struct PinnedScript {
    pub pin: ScriptPin,
    pub document: ScriptDocument,
    pub content: Arc<ScriptContent>,
}

/// A version of a tenant, as commands name it.
pub type VersionKey = (TenantId, String, u32);

/// The contents of versions.
pub type Contents = BTreeMap<VersionKey, Arc<ScriptContent>>;

impl Library {
    /// The version that a request names, or the current one.
    ///
    /// # Errors
    /// 422 `unknown_script` or `unknown_version`.
    pub async fn pin(
        &self,
        tenant_id: TenantId,
        reference: &LibraryReference,
    ) -> Result<PinnedScript> {
        let invalid = |code, detail| ServiceError::Invalid { code, detail };
        let name = &reference.name;
        let tenant = self.store.tenant(tenant_id);
        let script = tenant.script_by_name(name).await?.ok_or_else(|| {
            invalid("unknown_script", format!("the library has no script `{name}`; save it first"))
        })?;
        let number = reference.version.unwrap_or(script.current_version.unsigned_abs());
        let unknown = || {
            invalid(
                "unknown_version",
                format!("the script `{name}` of the library has no version {number}"),
            )
        };
        let found = tenant.script_version(script.id, number).await?.ok_or_else(unknown)?;
        let document = found.row.content().ok_or_else(unknown)?;
        let pin = ScriptPin {
            version: number,
            sha256: document.sha256.clone(),
            document_sha256: sha256_hex(found.row.document.as_bytes()),
        };
        Ok(PinnedScript { pin, document, content: Arc::new(content(found)) })
    }

    /// The contents of versions that still exist.
    pub async fn contents(
        &self,
        keys: BTreeSet<VersionKey>,
    ) -> std::result::Result<Contents, StoreError> {
        let mut contents = Contents::new();
        for key in keys {
            let (tenant_id, name, version) = &key;
            let tenant = self.store.tenant(*tenant_id);
            let Some(script) = tenant.script_by_name(name).await? else { continue };
            if let Some(found) = tenant.script_version(script.id, *version).await? {
                contents.insert(key, Arc::new(content(found)));
            }
        }
        Ok(contents)
    }
}

/// The version that a stored command runs: by its script and its data, JSON. `None` for everything that
/// is not of the library.
pub fn key_of(tenant_id: TenantId, script: Option<&str>, data: &str) -> Option<VersionKey> {
    let reference = LibraryReference::parse(script?)?;
    Some((tenant_id, reference.name, pin_of(data)?.version))
}

/// The pin in the data of a command, JSON.
pub fn pin_of(data: &str) -> Option<ScriptPin> {
    #[derive(Deserialize)]
    struct Data {
        library: Option<Value>,
    }
    let data: Data = serde_json::from_str(data).ok()?;
    serde_json::from_value(data.library?).ok()
}

fn content(found: ScriptVersionContent) -> ScriptContent {
    let ScriptVersionContent { row, body, signatures } = found;
    ScriptContent { document: row.document, body, signatures }
}
