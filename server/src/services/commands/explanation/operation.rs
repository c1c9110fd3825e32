//! The operation of a question about access.

use muster_protocol::CommandName;

use super::super::preflight::Executable;
use super::super::request::scope_of;
use crate::domain::access::principal::Scope;
use crate::domain::commands::work::WorkKind;
use crate::domain::name::{MAX_NAME_CHARS, clean};
use crate::services::error::{Result, ServiceError};

/// A parsed operation.
pub(super) enum ExplainedOperation<'a> {
    Scope(Scope),
    Command(CommandName),
    Script(&'a str),
    AdHoc,
}

/// Reads an operation.
///
/// # Errors
/// 422 if it is unknown.
pub(super) fn read(text: &str) -> Result<ExplainedOperation<'_>> {
    if let Ok(scope) = text.parse() {
        return Ok(ExplainedOperation::Scope(scope));
    }
    if let Some(script) = text.strip_prefix("run:").filter(|script| !script.is_empty()) {
        return Ok(ExplainedOperation::Script(script));
    }
    if text == "shell" {
        return Ok(ExplainedOperation::AdHoc);
    }
    match text.parse() {
        Ok(CommandName::Execute) | Err(_) => Err(ServiceError::invalid_field(
            "operation",
            &format!(
                "`{}` is not known; use a scope such as agents:write, a command such as restart, `shell`, or `run:` and the name of a script",
                clean(text, MAX_NAME_CHARS)
            ),
        )),
        Ok(name) => Ok(ExplainedOperation::Command(name)),
    }
}

impl ExplainedOperation<'_> {
    pub fn scopes(&self) -> Vec<Scope> {
        match self {
            Self::Scope(scope) => vec![*scope],
            Self::Command(name) => vec![scope_of(*name)],
            Self::Script(script) => WorkKind::Script(script).scopes().to_vec(),
            Self::AdHoc => vec![scope_of(CommandName::Execute), Scope::CommandsShell],
        }
    }

    pub fn kind(&self) -> Option<WorkKind<'_>> {
        Some(match self {
            Self::Scope(_) => return None,
            Self::Command(name) => WorkKind::of_command(name.as_str(), None),
            Self::Script(script) => WorkKind::Script(script),
            Self::AdHoc => WorkKind::AdHoc,
        })
    }

    /// What the hosts' manifests and policies decide on.
    pub fn executable(&self) -> Option<Executable> {
        match self {
            Self::Scope(_) | Self::Command(_) => None,
            Self::Script(script) => Some(Executable::NamedScript((*script).to_owned())),
            Self::AdHoc => Some(Executable::Argv),
        }
    }

    pub fn command(&self) -> Option<CommandName> {
        match self {
            Self::Scope(_) => None,
            Self::Command(name) => Some(*name),
            Self::Script(_) | Self::AdHoc => Some(CommandName::Execute),
        }
    }
}
