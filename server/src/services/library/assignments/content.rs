//! Finds what a request assigns, and checks that hosts can run it by themselves.

use muster_protocol::library::{LibraryReference, ScriptDocument, ScriptParameter};
use muster_protocol::package::{
    MAX_ASSIGNED_DOCUMENT_BYTES, MAX_ASSIGNED_PARAMETERS_BYTES, PackageDocument, PackageReference,
};
use muster_protocol::parameter::secret_parameters::SecretParameters;
use muster_protocol::parameter::{self, Parameters};
use serde_json::json;

use super::Assignments;
use crate::domain::ids::{ContentId, TenantId};
use crate::domain::library::assignment_records::AssignedKind;
use crate::services::error::{Result, ServiceError};

/// A version of a package or a script that may be assigned.
pub(super) struct Content {
    pub id: ContentId,
    pub name: String,
    pub version: String,
    pub kind: AssignedKind,
}

/// What says which parameters there are.
enum AssignableDocument<'a> {
    Package(&'a PackageDocument),
    Script(&'a ScriptDocument),
}

impl Assignments {
    /// What a reference names: a package or a script of the library, which may be assigned with these parameters.
    ///
    /// # Errors
    /// 422 names the field.
    pub(super) async fn content(
        &self,
        tenant_id: TenantId,
        reference: &str,
        parameters: &Parameters,
    ) -> Result<Content> {
        if let Some(reference) = PackageReference::parse(reference) {
            return self.package(tenant_id, &reference, parameters).await;
        }
        match LibraryReference::parse(reference) {
            Some(reference) => self.script(tenant_id, &reference, parameters).await,
            None => Err(invalid(
                "must be `package:NAME` or `library:NAME`, each with `@VERSION` or without",
            )),
        }
    }

    async fn package(
        &self,
        tenant_id: TenantId,
        reference: &PackageReference,
        parameters: &Parameters,
    ) -> Result<Content> {
        let tenant = self.store.tenant(tenant_id);
        let found = tenant.named_package(&reference.name, reference.version.as_deref()).await?;
        let found = found.ok_or_else(|| invalid("names no package of the library"))?;
        let document = found.content().ok_or_else(|| invalid("can't be read by this server"))?;
        let Some(kind) = AssignedKind::of(document.kind) else {
            return Err(invalid(
                "is a job; run it, or upload it with `kind = \"task\"` or `kind = \"service\"`",
            ));
        };
        check_size("muster.toml", &found.document)?;
        AssignableDocument::Package(&document).check(parameters)?;
        Ok(Content { id: found.id.into(), name: found.name, version: found.version, kind })
    }

    async fn script(
        &self,
        tenant_id: TenantId,
        reference: &LibraryReference,
        parameters: &Parameters,
    ) -> Result<Content> {
        let tenant = self.store.tenant(tenant_id);
        let script = tenant.script_by_name(&reference.name).await?;
        let script = script.ok_or_else(|| invalid("names no script of the library"))?;
        let number = reference.version.unwrap_or(script.current_version.unsigned_abs());
        let version = tenant.script_version(script.id, number).await?;
        let version = version.ok_or_else(|| invalid("names no version of the script"))?.row;
        let document = version.content().ok_or_else(|| invalid("can't be read by this server"))?;
        if document.has_trigger {
            return Err(invalid(
                "has a trigger, whose data is on the server; give it a schedule instead",
            ));
        }
        check_size("description", &version.document)?;
        let has_files = !ScriptParameter::files_among(&document.parameters, parameters).is_empty();
        AssignableDocument::Script(&document).check(parameters)?;
        if has_files {
            let problem = "must not be of the type `file`, because the server keeps such files only for a while";
            return Err(ServiceError::invalid_field("parameters", problem));
        }
        let (name, kind) = (script.name, AssignedKind::Script);
        Ok(Content { id: version.id.into(), name, version: number.to_string(), kind })
    }
}

impl AssignableDocument<'_> {
    /// Checks the parameters of each run.
    fn check(&self, parameters: &Parameters) -> Result<()> {
        let refused = |problem: String| ServiceError::invalid_field("parameters", &problem);
        if json!(parameters).to_string().len() > MAX_ASSIGNED_PARAMETERS_BYTES {
            return Err(refused("must be at most 4 KiB as JSON".to_owned()));
        }
        let (open, secrets) = (parameters.clone(), SecretParameters::default());
        let (checked, accepted) = match self {
            Self::Package(document) => {
                (document.check_values(&open, &secrets), document.accepted())
            }
            Self::Script(document) => (document.check_values(&open, &secrets), document.accepted()),
        };
        checked.map_err(|error| refused(error.to_string()))?;
        parameter::resolve(open, secrets, &accepted)
            .map(drop)
            .map_err(|error| refused(error.to_string()))
    }
}

fn check_size(what: &str, document: &str) -> Result<()> {
    match document.len() > MAX_ASSIGNED_DOCUMENT_BYTES {
        true => Err(invalid(&format!("has a {what} that is too large: at most 8 KiB as JSON"))),
        false => Ok(()),
    }
}

fn invalid(problem: &str) -> ServiceError {
    ServiceError::invalid_field("script", problem)
}
