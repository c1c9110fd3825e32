//! What a command names of a package, and how a host opens what the server sends beside it.

use serde::{Deserialize, Serialize};

use super::PackageDocument;
use crate::library::ScriptPin;
use crate::library::sha256_hex;

/// The package that a command runs: the field `package` of the data of an `execute`, beside `script`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackagePin {
    pub version: String,
    /// Hex SHA-256 of the archive.
    pub sha256: String,
    /// Hex SHA-256 of the document.
    pub document_sha256: String,
}

impl PackagePin {
    /// The pin of a version of a script that is assigned: a host gets its body as it gets an archive.
    pub fn for_script(pin: ScriptPin) -> Self {
        let ScriptPin { version, sha256, document_sha256 } = pin;
        Self { version: version.to_string(), sha256, document_sha256 }
    }

    /// The other way; `None` if the version is no number.
    pub fn of_script(&self) -> Option<ScriptPin> {
        let version = self.version.parse().ok()?;
        let (sha256, document_sha256) = (self.sha256.clone(), self.document_sha256.clone());
        Some(ScriptPin { version, sha256, document_sha256 })
    }
}

/// Why a document is not what the command pins. The messages are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageContentError {
    #[error("the server sent the package `{0}` without its document; it may have been deleted")]
    Missing(String),
    #[error("the document of the package has another SHA-256 than the command names")]
    Hash,
    #[error("the document is of another package or version than the command names")]
    Other,
    #[error("the document of the package can't be read: {0}; it may be from a newer server")]
    Unreadable(String),
}

impl PackageContentError {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "package_missing",
            Self::Hash | Self::Other => "hash_mismatch",
            Self::Unreadable(_) => "invalid_data",
        }
    }
}

/// The document, if it is exactly what a command pins.
///
/// # Errors
/// [`PackageContentError`] names what differs.
pub fn open_document(
    text: &str,
    name: &str,
    pin: &PackagePin,
) -> Result<PackageDocument, PackageContentError> {
    if sha256_hex(text.as_bytes()) != pin.document_sha256 {
        return Err(PackageContentError::Hash);
    }
    let document: PackageDocument = serde_json::from_str(text)
        .map_err(|error| PackageContentError::Unreadable(error.to_string()))?;
    document.check().map_err(|(field, problem)| {
        PackageContentError::Unreadable(format!("`{field}` {problem}"))
    })?;
    if document.name != name || document.version != pin.version || document.sha256 != pin.sha256 {
        return Err(PackageContentError::Other);
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::document;
    use super::*;

    #[test]
    fn only_the_pinned_document_opens() {
        let text = document().to_text();
        let pin = PackagePin {
            version: "1.2.0".into(),
            sha256: document().sha256,
            document_sha256: sha256_hex(text.as_bytes()),
        };
        assert_eq!(open_document(&text, "backup", &pin), Ok(document()));
        assert_eq!(open_document(&text, "other", &pin), Err(PackageContentError::Other));
        let version = PackagePin { version: "1.2.1".into(), ..pin.clone() };
        assert_eq!(open_document(&text, "backup", &version), Err(PackageContentError::Other));
        let archive = PackagePin { sha256: sha256_hex(b"evil"), ..pin.clone() };
        assert_eq!(open_document(&text, "backup", &archive), Err(PackageContentError::Other));
        let changed = text.replace("run.sh", "evil.sh");
        assert_eq!(open_document(&changed, "backup", &pin), Err(PackageContentError::Hash));
    }
}
