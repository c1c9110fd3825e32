//! What travels beside a command: the document of a version, its body and its signatures. The command's
//! own data only pins them.

use serde::{Deserialize, Serialize};

use super::{ScriptDocument, ScriptSignature, check_body, sha256_hex};

/// Most signatures of one version.
pub const MAX_SIGNATURES: usize = 8;

/// The version that a command runs: the field `library` of the data of an `execute`, beside `script`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScriptPin {
    pub version: u32,
    /// Hex SHA-256 of the body.
    pub sha256: String,
    /// Hex SHA-256 of the document.
    pub document_sha256: String,
}

/// One version with its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScriptContent {
    /// JSON, byte for byte as it is hashed.
    pub document: String,
    pub body: String,
    /// What publishers have signed about the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<ScriptSignature>,
}

/// Why a content is not what the command pins. The messages are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error(
        "the server sent the script `{0}` without its content; it may have been deleted from the library"
    )]
    Missing(String),
    #[error("the content of the script has another SHA-256 than the command names")]
    Hash,
    #[error("the content is of another script or version than the command names")]
    Other,
    #[error("the content can't be read: {0}; it may be from a newer server")]
    Unreadable(String),
}

impl ContentError {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "script_missing",
            Self::Hash | Self::Other => "hash_mismatch",
            Self::Unreadable(_) => "invalid_data",
        }
    }
}

impl ScriptContent {
    /// The document, if document and body are exactly what a command pins.
    ///
    /// # Errors
    /// [`ContentError`] names what differs.
    pub fn open(&self, name: &str, pin: &ScriptPin) -> Result<ScriptDocument, ContentError> {
        let document = ScriptDocument::open(&self.document, name, pin)?;
        check_body(&self.body)
            .map_err(|problem| ContentError::Unreadable(format!("the script {problem}")))?;
        match document.sha256 == sha256_hex(self.body.as_bytes()) {
            true => Ok(document),
            false => Err(ContentError::Hash),
        }
    }
}

impl ScriptDocument {
    /// Reads a document that must be exactly what a command pins. Its body is not checked.
    ///
    /// # Errors
    /// [`ContentError`] names what differs.
    pub fn open(text: &str, name: &str, pin: &ScriptPin) -> Result<Self, ContentError> {
        if sha256_hex(text.as_bytes()) != pin.document_sha256 {
            return Err(ContentError::Hash);
        }
        let document: Self = serde_json::from_str(text)
            .map_err(|error| ContentError::Unreadable(error.to_string()))?;
        document
            .check()
            .map_err(|(field, problem)| ContentError::Unreadable(format!("`{field}` {problem}")))?;
        if document.name != name || document.version != pin.version {
            return Err(ContentError::Other);
        }
        match document.sha256 == pin.sha256 {
            true => Ok(document),
            false => Err(ContentError::Hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    #[test]
    fn only_the_pinned_version_with_the_pinned_body_opens() {
        let text = document().to_text();
        let pin = ScriptPin {
            version: 3,
            sha256: document().sha256,
            document_sha256: sha256_hex(text.as_bytes()),
        };
        let content =
            ScriptContent { document: text, body: "echo hi\n".into(), signatures: vec![] };
        assert_eq!(content.open("disk-report", &pin), Ok(document()));
        assert_eq!(content.open("other", &pin), Err(ContentError::Other));
        let other = ScriptPin { version: 2, ..pin.clone() };
        assert_eq!(content.open("disk-report", &other), Err(ContentError::Other));
        let body = ScriptContent { body: "echo ho\n".into(), ..content.clone() };
        assert_eq!(body.open("disk-report", &pin), Err(ContentError::Hash));
        let document = content.document.replace("\"sh\"", "\"bash\"");
        let changed = ScriptContent { document, ..content };
        assert_eq!(changed.open("disk-report", &pin), Err(ContentError::Hash));
    }
}
