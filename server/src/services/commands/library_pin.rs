//! Pins the version of a library script in a request: from then on it is decided what runs.

use muster_protocol::library::LibraryReference;
use muster_protocol::manifest_mismatch::ManifestMismatch;
use serde_json::json;

use super::preflight::Executable;
use super::request::ValidatedCommand;
use crate::domain::ids::TenantId;
use crate::domain::schedules::trigger_call::PinnedCall;
use crate::services::error::{Result, ServiceError};
use crate::services::library::Library;

/// Chooses the version of a script of the library, checks the parameters against it, and writes number
/// and hashes into the data, and the call of a schedule if the script has a trigger. Does nothing for other
/// work.
///
/// # Errors
/// 422 `unknown_script`, `unknown_version` or `invalid_parameters`.
pub(super) async fn pin_script(
    library: &Library,
    tenant_id: TenantId,
    validated: &mut ValidatedCommand,
    call: Option<PinnedCall>,
) -> Result<()> {
    let Some(Executable::Library { reference, parameters, .. }) = &validated.executable else {
        return Ok(());
    };
    let pinned = library.pin(tenant_id, reference).await?;
    let checked = pinned.document.check_values(parameters, &validated.secret_parameters);
    checked.map_err(ManifestMismatch::from).map_err(|mismatch| ServiceError::Invalid {
        code: mismatch.code(),
        detail: mismatch.to_string(),
    })?;
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
    validated.content = Some(pinned.content);
    Ok(())
}
