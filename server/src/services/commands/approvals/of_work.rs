//! The requests for approval that answers about jobs and commands name.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::domain::commands::approval::{ApprovalRecord, WorkApproval};
use crate::domain::ids::{CommandId, JobId};
use crate::services::error::Result;
use crate::store::entities::commands::approval;
use crate::store::queries::{CommandWithReport, TenantScope};

/// The requests by the id of the job or command that waits.
pub(in crate::services) type ApprovalsByWork = HashMap<Uuid, WorkApproval>;

/// The requests for the approval of these jobs and commands, with the names of who decided.
pub(in crate::services) async fn approvals_of(
    tenant: &TenantScope,
    jobs: BTreeSet<JobId>,
    commands: BTreeSet<CommandId>,
) -> Result<ApprovalsByWork> {
    let (jobs, commands) = (jobs.into_iter().collect(), commands.into_iter().collect());
    let rows = tenant.approvals_of_work(jobs, commands).await?;
    let names = tenant.principal_names(rows.iter().filter_map(|row| row.decided_by).collect());
    let names = names.await?;
    let shown = |row: approval::Model| {
        let work = row.job_id.map(|id| id.0).or(row.command_id.map(|id| id.0))?;
        let mut approval = WorkApproval::from(row);
        approval.decided_by_name = approval.decided_by.and_then(|id| names.get(&id).cloned());
        Some((work, approval))
    };
    Ok(rows.into_iter().filter_map(shown).collect())
}

/// Adds the requests to commands. An execution of a job waits for the request of its job.
pub(in crate::services) async fn add_approvals(
    tenant: &TenantScope,
    commands: &mut [CommandWithReport],
) -> Result<()> {
    let jobs = commands.iter().filter_map(|found| found.command.job_id).collect();
    let alone = commands.iter().filter(|found| found.command.job_id.is_none());
    let alone = alone.map(|found| found.command.id).collect();
    let approvals = approvals_of(tenant, jobs, alone).await?;
    for found in commands {
        let work = found.command.job_id.map_or(found.command.id.0, |id| id.0);
        found.approval = approvals.get(&work).cloned();
    }
    Ok(())
}

/// Adds the names of who requested and who decided.
pub(super) async fn add_names(tenant: &TenantScope, rows: &mut [ApprovalRecord]) -> Result<()> {
    let people = rows.iter().flat_map(|row| row.decided_by.into_iter().chain([row.requested_by]));
    let names = tenant.principal_names(people.collect()).await?;
    for row in rows {
        row.requested_by_name = names.get(&row.requested_by).cloned();
        row.decided_by_name = row.decided_by.and_then(|id| names.get(&id).cloned());
    }
    Ok(())
}
