//! Finds what a request runs, and reads it again for hosts that get it later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_protocol::commands::step::parts_of;
use muster_protocol::library::{
    LIBRARY_PREFIX, LibraryReference, ScriptContent, ScriptDocument, ScriptPin, sha256_hex,
};
use muster_protocol::package::{PackageDocument, PackagePin, PackageReference};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Library;
use crate::domain::ids::TenantId;
use crate::domain::library::package_records::PackageRecord;
use crate::domain::library::records::ScriptVersionContent;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;

/// The version that a request runs.
pub struct PinnedScript {
    pub pin: ScriptPin,
    pub document: ScriptDocument,
    pub content: Arc<ScriptContent>,
}

/// The package that a request runs.
pub struct PinnedPackage {
    pub pin: PackagePin,
    pub document: PackageDocument,
    pub content: Arc<ScriptContent>,
}

/// A version of a tenant, as commands name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum VersionKey {
    Script(TenantId, String, u32),
    Package(TenantId, String, String),
}

/// The contents of versions.
pub type Contents = BTreeMap<VersionKey, Arc<ScriptContent>>;

impl Library {
    /// The version that a request names, or the current one.
    ///
    /// # Errors
    /// 422 `unknown_library_script` or `unknown_version`.
    pub async fn pin(
        &self,
        tenant_id: TenantId,
        reference: &LibraryReference,
    ) -> Result<PinnedScript> {
        let invalid = |code, detail| ServiceError::Invalid { code, detail };
        let name = &reference.name;
        let tenant = self.store.tenant(tenant_id);
        let script = tenant.script_by_name(name).await?.ok_or_else(|| {
            invalid(
                "unknown_library_script",
                format!("the library has no script `{name}`; save it first"),
            )
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

    /// The package that a request names, or its newest version.
    ///
    /// # Errors
    /// 422 `unknown_package`.
    pub async fn pin_package(
        &self,
        tenant_id: TenantId,
        reference: &PackageReference,
    ) -> Result<PinnedPackage> {
        let (name, version) = (&reference.name, reference.version.as_deref());
        let found = self.store.tenant(tenant_id).named_package(name, version).await?;
        let unknown = || ServiceError::Invalid {
            code: "unknown_package",
            detail: format!("there is no package `{reference}`; see `muster packages`"),
        };
        let row = found.ok_or_else(unknown)?;
        let document = row.content().ok_or_else(unknown)?;
        let pin = PackagePin {
            version: row.version.clone(),
            sha256: row.sha256.clone(),
            document_sha256: sha256_hex(row.document.as_bytes()),
        };
        let content = self.package_content(row).await?;
        Ok(PinnedPackage { pin, document, content: Arc::new(content) })
    }

    /// The contents of versions that still exist.
    pub async fn contents(
        &self,
        keys: BTreeSet<VersionKey>,
    ) -> std::result::Result<Contents, StoreError> {
        let mut contents = Contents::new();
        for key in keys {
            let found = match &key {
                VersionKey::Script(tenant_id, name, version) => {
                    let tenant = self.store.tenant(*tenant_id);
                    let Some(script) = tenant.script_by_name(name).await? else { continue };
                    tenant.script_version(script.id, *version).await?.map(content)
                }
                VersionKey::Package(tenant_id, name, version) => {
                    let tenant = self.store.tenant(*tenant_id);
                    match tenant.named_package(name, Some(version)).await? {
                        Some(row) => Some(self.package_content(row).await?),
                        None => None,
                    }
                }
            };
            if let Some(found) = found {
                contents.insert(key, Arc::new(found));
            }
        }
        Ok(contents)
    }

    /// The document and its signatures alone: hosts download the archive.
    async fn package_content(
        &self,
        row: PackageRecord,
    ) -> std::result::Result<ScriptContent, StoreError> {
        let tenant = self.store.tenant(row.tenant_id);
        let signatures = tenant.package_signatures(vec![row.id]).await?.remove(&row.id);
        Ok(ScriptContent {
            document: row.document,
            body: String::new(),
            signatures: signatures.unwrap_or_default(),
        })
    }
}

/// The versions that a stored command runs: by its script, or the title of its steps, and its data, JSON.
/// Without everything that is not of the library.
pub fn keys_of(tenant_id: TenantId, script: Option<&str>, data: &str) -> Vec<VersionKey> {
    let Some(script) = script else { return Vec::new() };
    let Some(parts) = parts_of(script) else {
        return key_of(tenant_id, script, data).into_iter().collect();
    };
    if !parts.flatten().any(|part| part.starts_with(LIBRARY_PREFIX)) {
        return Vec::new();
    }
    let mut keys = Vec::new();
    for step in steps_of(data) {
        let pin = step.library.and_then(|pin| read::<ScriptPin>(Some(pin)));
        let reference = step.script.as_deref().and_then(LibraryReference::parse);
        let Some((reference, pin)) = reference.zip(pin) else { continue };
        let key = VersionKey::Script(tenant_id, reference.name, pin.version);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn key_of(tenant_id: TenantId, script: &str, data: &str) -> Option<VersionKey> {
    if let Some(package) = PackageReference::parse(script) {
        let version = package_pin_of(data)?.version;
        return Some(VersionKey::Package(tenant_id, package.name, version));
    }
    let reference = LibraryReference::parse(script)?;
    Some(VersionKey::Script(tenant_id, reference.name, pin_of(data)?.version))
}

/// A step in the data of a command.
#[derive(Default, Deserialize)]
pub struct StoredStep {
    pub script: Option<String>,
    /// The pin.
    library: Option<Value>,
}

impl StoredStep {
    /// The same data as that of a command which runs the step alone.
    pub fn into_data(self) -> String {
        json!({"script": self.script, "library": self.library}).to_string()
    }
}

/// The steps in the data of a command, JSON.
pub fn steps_of(data: &str) -> Vec<StoredStep> {
    #[derive(Deserialize)]
    struct Steps {
        #[serde(default)]
        steps: Vec<StoredStep>,
    }
    serde_json::from_str::<Steps>(data).map(|data| data.steps).unwrap_or_default()
}

/// The pin in the data of a command, JSON, as one text, and the SHA-256 of the file that runs.
pub fn pinned_text(data: &str) -> Option<(String, String)> {
    if let Some(pin) = package_pin_of(data) {
        return Some((serde_json::to_string(&pin).ok()?, pin.sha256));
    }
    let pin = pin_of(data)?;
    Some((serde_json::to_string(&pin).ok()?, pin.sha256))
}

/// The pin of a script in the data of a command, JSON.
fn pin_of(data: &str) -> Option<ScriptPin> {
    read(pins_of(data)?.library)
}

fn package_pin_of(data: &str) -> Option<PackagePin> {
    read(pins_of(data)?.package)
}

#[derive(Deserialize)]
struct Pins {
    library: Option<Value>,
    package: Option<Value>,
}

fn pins_of(data: &str) -> Option<Pins> {
    serde_json::from_str(data).ok()
}

fn read<T: DeserializeOwned>(pin: Option<Value>) -> Option<T> {
    serde_json::from_value(pin?).ok()
}

fn content(found: ScriptVersionContent) -> ScriptContent {
    let ScriptVersionContent { row, body, signatures } = found;
    ScriptContent { document: row.document, body, signatures }
}
