//! Pins the version of a library script, or a package, in a request: from then on it is decided what runs.

use std::sync::Arc;

use muster_protocol::commands::file_transfer::{FileTransfer, PUSH};
use muster_protocol::commands::step::MAX_STEP_CONTENT_BYTES;
use muster_protocol::library::{
    LibraryReference, ParameterKind, ScriptContent, ScriptDocument, ScriptParameter,
};
use muster_protocol::manifest::ManifestMismatch;
use muster_protocol::parameter::secret_parameters::SecretParameters;
use muster_protocol::parameter::{ParameterError, Parameters};
use serde_json::{Value, json};

use super::preflight::Executable;
use super::request::ValidatedCommand;
use crate::domain::access::credential::NewSecret;
use crate::domain::ids::TenantId;
use crate::domain::schedules::trigger_call::PinnedCall;
use crate::services::error::{Result, ServiceError};
use crate::services::library::Library;

/// The start of each dummy secret of a rehearsal.
const DUMMY_PREFIX: &str = "dummy_";

/// Chooses the version of a script of the library, checks the parameters against it, and writes number
/// and hashes into the data, and the call of a schedule if the script has a trigger. Does nothing for other
/// work.
///
/// # Errors
/// 422 `unknown_library_script`, `unknown_version`, `unknown_package` or `invalid_parameters`.
pub(super) async fn pin_script(
    library: &Library,
    tenant_id: TenantId,
    validated: &mut ValidatedCommand,
    call: Option<PinnedCall>,
) -> Result<()> {
    let (reference, parameters) = match &validated.executable {
        Some(Executable::Library { reference, parameters, .. }) => (reference, parameters),
        Some(Executable::Package { .. }) => {
            return pin_package(library, tenant_id, validated).await;
        }
        Some(Executable::File { name, file }) if name == PUSH => {
            return pin_file(library, tenant_id, file.clone(), validated).await;
        }
        Some(Executable::Steps { .. }) => return pin_steps(library, tenant_id, validated).await,
        _ => return Ok(()),
    };
    let pinned = library.pin(tenant_id, reference).await?;
    if validated.data["rehearsal"] == true {
        add_dummies(&pinned.document, &mut validated.secret_parameters)?;
    }
    let checked = pinned.document.check_values(parameters, &validated.secret_parameters);
    checked.map_err(invalid_values)?;
    let name = LibraryReference { version: None, ..reference.clone() }.full_name();
    let mut data = validated.data.clone();
    data["script"] = name.into();
    data["library"] = json!(pinned.pin);
    validated.call = call.filter(|_| pinned.document.has_trigger);
    if let Some(call) = validated.call {
        data["call"] = json!(call);
    }
    if data.get("timeout_ms").is_none()
        && let Some(timeout_ms) = pinned.document.timeout_ms
    {
        validated.timeout_ms = timeout_ms;
    }
    validated.set_data(data);
    validated.contents = vec![pinned.content];
    Ok(())
}

/// Adds the size of a file that was uploaded, and keeps it until hosts have got it.
async fn pin_file(
    library: &Library,
    tenant_id: TenantId,
    file: FileTransfer,
    validated: &mut ValidatedCommand,
) -> Result<()> {
    let sha256 = file.sha256.clone().unwrap_or_default();
    let bytes = library.pin_file(tenant_id, &sha256, validated.expires_in_ms).await?;
    let mut data = validated.data.clone();
    data["file"] = json!(FileTransfer { bytes: Some(bytes), ..file });
    validated.set_data(data);
    Ok(())
}

/// Gives each secret parameter of a rehearsal a random value that is no secret. Values that the caller gives
/// stay: a pattern may need one.
fn add_dummies(document: &ScriptDocument, secrets: &mut SecretParameters) -> Result<()> {
    let is_secret = |known: &&ScriptParameter| known.kind == ParameterKind::Secret;
    for parameter in document.parameters.iter().filter(is_secret) {
        if secrets.get(&parameter.name).is_none() {
            let dummy = NewSecret::random(DUMMY_PREFIX)?;
            secrets.insert(parameter.name.clone(), dummy.secret);
        }
    }
    Ok(())
}

/// Pins each script of the library among the steps. A script with a trigger runs as without a schedule.
async fn pin_steps(
    library: &Library,
    tenant_id: TenantId,
    validated: &mut ValidatedCommand,
) -> Result<()> {
    let mut data = validated.data.clone();
    let mut contents: Vec<Arc<ScriptContent>> = Vec::new();
    for (number, (executable, secrets)) in validated.runs().enumerate() {
        let Executable::Library { name, reference, parameters } = executable else { continue };
        let pinned = library.pin(tenant_id, reference).await?;
        pinned.document.check_values(parameters, secrets).map_err(invalid_values)?;
        let step = data.pointer_mut(&format!("/steps/{number}")).and_then(Value::as_object_mut);
        let Some(step) = step else {
            return Err(ServiceError::invalid_field("steps", "must be objects"));
        };
        step.insert("script".to_owned(), name.as_str().into());
        step.insert("library".to_owned(), json!(pinned.pin));
        if contents.iter().all(|known| known.document != pinned.content.document) {
            contents.push(pinned.content);
        }
    }
    if contents.is_empty() {
        return Ok(());
    }
    let size = |content: &Arc<ScriptContent>| content.document.len() + content.body.len();
    if contents.iter().map(size).sum::<usize>() > MAX_STEP_CONTENT_BYTES {
        let problem = "has scripts of the library that are larger than 512 KiB together";
        return Err(ServiceError::invalid_field("steps", problem));
    }
    validated.set_data(data);
    validated.contents = contents;
    Ok(())
}

/// Checks a script of the library and its parameters for work that is submitted later: against the version
/// that would run now. `open`: parameters whose values are not known before.
///
/// # Errors
/// 422 `unknown_library_script`, `unknown_version` or `invalid_parameters`, which names what to add.
pub(super) async fn check_script(
    library: &Library,
    tenant_id: TenantId,
    reference: &LibraryReference,
    (parameters, secrets): (&Parameters, &SecretParameters),
    open: &[String],
) -> Result<()> {
    let mut document = library.pin(tenant_id, reference).await?.document;
    let mut parameters = parameters.clone();
    let refused = |detail| ServiceError::Invalid { code: "invalid_parameters", detail };
    for name in open {
        let Some(place) = document.parameters.iter().position(|known| known.name == *name) else {
            return Err(refused(ParameterError::NotOfVersion(name.clone()).to_string()));
        };
        document.parameters.remove(place);
        parameters.remove(name);
    }
    document.check_values(&parameters, secrets).map_err(|error| match error {
        ParameterError::Missing(name) => {
            let is_secret = document
                .parameters
                .iter()
                .any(|known| known.name == name && known.kind == ParameterKind::Secret);
            let kind = if is_secret { "secret parameters" } else { "parameters" };
            let script = reference.full_name();
            refused(format!(
                "parameter `{name}` is required by {script}; add `{name}=VALUE` to the {kind}"
            ))
        }
        error => refused(error.to_string()),
    })
}

/// Pins the version of a package in a request, and checks the parameters for it.
async fn pin_package(
    library: &Library,
    tenant_id: TenantId,
    validated: &mut ValidatedCommand,
) -> Result<()> {
    let Some(Executable::Package { name, reference, parameters }) = &validated.executable else {
        return Ok(());
    };
    let pinned = library.pin_package(tenant_id, reference).await?;
    let checked = pinned.document.check_values(parameters, &validated.secret_parameters);
    checked.map_err(invalid_values)?;
    let mut data = validated.data.clone();
    data["script"] = name.as_str().into();
    data["package"] = json!(pinned.pin);
    if data.get("timeout_ms").is_none()
        && let Some(timeout_ms) = pinned.document.timeout_ms
    {
        validated.timeout_ms = timeout_ms;
    }
    validated.set_data(data);
    validated.contents = vec![pinned.content];
    Ok(())
}

fn invalid_values(error: ParameterError) -> ServiceError {
    let mismatch = ManifestMismatch::from(error);
    ServiceError::Invalid { code: mismatch.code(), detail: mismatch.to_string() }
}
