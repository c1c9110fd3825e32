//! Reads and checks what an assignment is to be.

use muster_protocol::package::{
    MAX_ASSIGNED_DOCUMENT_BYTES, MAX_ASSIGNED_PARAMETERS_BYTES, PackageReference,
};
use muster_protocol::parameter::secret_parameters::SecretParameters;
use muster_protocol::parameter::{self, Parameters};
use serde_json::json;

use super::{Assignments, RolloutRequest, script_name, target_of};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, AssignmentId, TenantId};
use crate::domain::library::assignment_records::{AssignedKind, AssignmentRecord};
use crate::domain::library::package_records::PackageRecord;
use crate::domain::name::check_name;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::Clearance;
use crate::services::error::{Result, ServiceError};

/// An assignment, or changes to one. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct AssignmentRequest {
    pub name: Option<String>,
    /// `package:NAME@VERSION`, or `package:NAME` for the newest version.
    pub package: Option<String>,
    pub target: Option<TargetSpec>,
    /// Only of a new assignment.
    pub parameters: Parameters,
    /// How the version reaches the agents; all at once if absent.
    pub rollout: Option<RolloutRequest>,
    /// The number of agents that the caller expects.
    pub confirmation: Option<Confirmation>,
}

impl Assignments {
    pub(super) async fn new_record(
        &self,
        caller: &Caller,
        request: &AssignmentRequest,
        now: Timestamp,
    ) -> Result<AssignmentRecord> {
        let name = request.name.clone().ok_or_else(|| ServiceError::required("name"))?;
        let package = request.package.as_deref();
        let package = package.ok_or_else(|| ServiceError::required("package"))?;
        let spec = request.target.clone().ok_or_else(|| ServiceError::required("target"))?;
        check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        Target::try_from(spec.clone())?;
        let tenant_id = caller.principal.tenant_id;
        let found = self.package(tenant_id, package).await?;
        let kind = check_package(&found, &request.parameters)?;
        Ok(AssignmentRecord {
            id: AssignmentId::new(),
            tenant_id,
            name,
            package_id: found.id,
            package_name: found.name,
            package_version: found.version,
            kind,
            target: json!(spec).to_string(),
            parameters: json!(request.parameters).to_string(),
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
            deleted_at: None,
        })
    }

    pub(super) async fn changed_record(
        &self,
        mut row: AssignmentRecord,
        request: &AssignmentRequest,
        now: Timestamp,
    ) -> Result<AssignmentRecord> {
        if let Some(name) = &request.name {
            check_name(name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name.clone_from(name);
        }
        if let Some(spec) = &request.target {
            Target::try_from(spec.clone())?;
            row.target = json!(spec).to_string();
        }
        if let Some(package) = &request.package {
            let found = self.package(row.tenant_id, package).await?;
            if found.name != row.package_name {
                let problem = "must be a version of the same package; create another assignment";
                return Err(ServiceError::invalid_field("package", problem));
            }
            if check_package(&found, &row.parameters())? != row.kind {
                let problem = "must be of the same kind; create another assignment";
                return Err(ServiceError::invalid_field("package", problem));
            }
            row.package_id = found.id;
            row.package_version = found.version;
        }
        row.changed_at = now.max(row.changed_at.plus_ms(1));
        Ok(row)
    }

    async fn package(&self, tenant_id: TenantId, reference: &str) -> Result<PackageRecord> {
        let invalid = |problem: &'static str| ServiceError::invalid_field("package", problem);
        let reference = PackageReference::parse(reference)
            .ok_or_else(|| invalid("must be `package:NAME` or `package:NAME@VERSION`"))?;
        let tenant = self.store.tenant(tenant_id);
        let found = tenant.named_package(&reference.name, reference.version.as_deref()).await?;
        found.ok_or_else(|| invalid("names no package of the library"))
    }

    /// Checks what the runs of an assignment may do. Agents join its target later, so no rule may ask for an
    /// approval of this package on any agent.
    ///
    /// # Errors
    /// 403 `approval_needed` or `refused_by_ladder`; 409 `agent_count_unconfirmed`.
    pub(super) async fn check_work(
        &self,
        caller: &Caller,
        row: &AssignmentRecord,
        request: &AssignmentRequest,
    ) -> Result<()> {
        let script = script_name(row);
        let kind = WorkKind::Script(&script);
        if let Some(rule) = self.guard.rules_about(caller, kind).await?.first() {
            return Err(approval_needed(&format!("the rule `{}`", rule.name)));
        }
        let tenant = self.store.tenant(row.tenant_id);
        let chosen = tenant.resolve(&target_of(row)?, |id| self.hub.is_connected(id)).await?;
        let agents: Vec<AgentId> = chosen.agents.iter().map(|facts| facts.id).collect();
        match self.guard.check(caller, kind, &agents, request.confirmation).await? {
            Clearance::Free => Ok(()),
            Clearance::NeedsApproval(_) => Err(approval_needed("the ladder of this tenant")),
        }
    }
}

/// Checks that a package may be assigned with these parameters, and returns what hosts do with it.
fn check_package(package: &PackageRecord, parameters: &Parameters) -> Result<AssignedKind> {
    let invalid = |problem: &str| ServiceError::invalid_field("package", problem);
    let Some(document) = package.content() else {
        return Err(invalid("can't be read by this server"));
    };
    let Some(kind) = AssignedKind::of(document.kind) else {
        return Err(invalid(
            "is a job; run it, or upload it with `kind = \"task\"` or `kind = \"service\"`",
        ));
    };
    if package.document.len() > MAX_ASSIGNED_DOCUMENT_BYTES {
        return Err(invalid("has a muster.toml that is too large: at most 8 KiB as JSON"));
    }
    let refused = |problem: String| ServiceError::invalid_field("parameters", &problem);
    if json!(parameters).to_string().len() > MAX_ASSIGNED_PARAMETERS_BYTES {
        return Err(refused("must be at most 4 KiB as JSON".to_owned()));
    }
    let (open, secrets) = (parameters.clone(), SecretParameters::default());
    document.check_values(&open, &secrets).map_err(|error| refused(error.to_string()))?;
    parameter::resolve(open, secrets, &document.accepted())
        .map_err(|error| refused(error.to_string()))?;
    Ok(kind)
}

pub(super) fn approval_needed(rule: &str) -> ServiceError {
    ServiceError::Forbidden {
        code: "approval_needed",
        detail: format!(
            "{rule} asks for an approval of this package, and an assignment can't wait for it; run the package as a job, or ask an owner to change the rule"
        ),
    }
}
