//! Requests that create or change a script: validates them.

use muster_protocol::library::{
    DOCUMENT_FORMAT, ScriptDocument, ScriptParameter, check_body, sha256_hex,
};
use muster_protocol::limits::MAX_TIMEOUT_MS;
use serde_json::json;

use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::library::records::ScriptRecord;
use crate::domain::library::rules::{
    MAX_SCRIPT_DESCRIPTION_CHARS, MAX_VERSION_MESSAGE_CHARS, check_folder,
};
use crate::domain::name::{check_tags, check_text};
use crate::services::error::{Result, ServiceError};

/// Changes to what people see of a script. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct ScriptRequest {
    pub folder: Option<String>,
    pub tags: Option<Vec<String>>,
    pub description: Option<String>,
    /// `Some(None)` removes it.
    pub default_target: Option<Option<TargetSpec>>,
    /// The version that runs if a request names none.
    pub current_version: Option<u32>,
    /// The latest version that the caller knows.
    pub expected_version: Option<u32>,
}

/// What a version runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptContentRequest {
    pub body: String,
    pub interpreter: String,
    pub parameters: Vec<ScriptParameter>,
    pub timeout_ms: Option<u64>,
    pub has_trigger: bool,
    /// A `requirements.txt` or a `package.json`.
    pub requirements: Option<String>,
    /// Why it was saved.
    pub message: String,
}

impl ScriptRequest {
    /// Writes the changes into a record; the version is checked by the caller.
    ///
    /// # Errors
    /// 422 names the field.
    pub(super) fn apply(self, row: &mut ScriptRecord) -> Result<()> {
        let invalid = ServiceError::invalid_field;
        if let Some(folder) = self.folder {
            check_folder(&folder).map_err(|problem| invalid("folder", problem))?;
            row.folder = folder;
        }
        if let Some(mut tags) = self.tags {
            check_tags(&tags).map_err(|problem| invalid("tags", problem))?;
            tags.sort_unstable();
            tags.dedup();
            row.tags = tags;
        }
        if let Some(description) = self.description {
            check_text(&description, MAX_SCRIPT_DESCRIPTION_CHARS)
                .map_err(|problem| invalid("description", &problem))?;
            row.description = description;
        }
        if let Some(target) = self.default_target {
            if let Some(target) = &target {
                Target::try_from(target.clone())?;
            }
            row.default_target = target.map(|target| json!(target).to_string());
        }
        Ok(())
    }
}

impl ScriptContentRequest {
    /// The document of the version with this number.
    ///
    /// # Errors
    /// 422 names the field.
    pub(super) fn document(&self, name: &str, version: u32) -> Result<ScriptDocument> {
        let invalid = ServiceError::invalid_field;
        check_body(&self.body).map_err(|problem| invalid("body", problem))?;
        check_text(&self.message, MAX_VERSION_MESSAGE_CHARS)
            .map_err(|problem| invalid("message", &problem))?;
        if let Some(timeout_ms) = self.timeout_ms
            && !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms)
        {
            return Err(ServiceError::out_of_range("timeout_ms", timeout_ms, 1..=MAX_TIMEOUT_MS));
        }
        let document = ScriptDocument {
            format: DOCUMENT_FORMAT,
            name: name.to_owned(),
            version,
            sha256: sha256_hex(self.body.as_bytes()),
            interpreter: self.interpreter.clone(),
            parameters: self.parameters.clone(),
            timeout_ms: self.timeout_ms,
            has_trigger: self.has_trigger,
            requirements: self.requirements.clone(),
        };
        document.check().map_err(|(field, problem)| invalid(&field, &problem))?;
        Ok(document)
    }
}
