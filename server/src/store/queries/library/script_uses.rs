//! What of a tenant runs a script of the library later: schedules, hooks and assignments.

use muster_protocol::library::{LIBRARY_PREFIX, LibraryReference};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use super::assigned_contents::current;
use crate::domain::ids::TenantId;
use crate::domain::library::assignment_records::AssignedKind;
use crate::domain::library::records::ScriptUse;
use crate::domain::schedules::records::JobTemplate;
use crate::store::StoreError;
use crate::store::entities::library::assignment;
use crate::store::entities::schedules::{hook, schedule};

/// Schedules, hooks and assignments that are named, of each kind.
const MAX_USES: usize = 20;

/// The first schedules and hooks whose job runs a script, and the first assignments of it, oldest first.
pub(super) async fn uses_of(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    name: &str,
) -> Result<Vec<ScriptUse>, StoreError> {
    // Finds candidates: another script may have a name that starts with this one.
    let part = format!("\"script\":\"{LIBRARY_PREFIX}{name}");
    let schedules: Vec<(String, String)> = schedule::Entity::find()
        .select_only()
        .columns([schedule::Column::Name, schedule::Column::Job])
        .filter(schedule::Column::TenantId.eq(tenant_id))
        .filter(schedule::Column::Job.contains(&part))
        .order_by_asc(schedule::Column::Id)
        .into_tuple()
        .all(transaction)
        .await?;
    let hooks: Vec<(String, String)> = hook::Entity::find()
        .select_only()
        .columns([hook::Column::Name, hook::Column::Job])
        .filter(hook::Column::TenantId.eq(tenant_id))
        .filter(hook::Column::Job.contains(&part))
        .order_by_asc(hook::Column::Id)
        .into_tuple()
        .all(transaction)
        .await?;
    let assignments: Vec<String> = current(tenant_id)
        .select_only()
        .column(assignment::Column::Name)
        .filter(assignment::Column::Kind.eq(AssignedKind::Script))
        .filter(assignment::Column::ContentName.eq(name))
        .order_by_asc(assignment::Column::Id)
        .limit(MAX_USES as u64)
        .into_tuple()
        .all(transaction)
        .await?;
    let assignments = assignments.into_iter().map(|name| ScriptUse { kind: "assignment", name });
    let users = |kind, rows: Vec<(String, String)>| {
        let of_script = rows.into_iter().filter(|(_, job)| runs(job, name)).take(MAX_USES);
        of_script.map(move |(name, _)| ScriptUse { kind, name })
    };
    Ok(users("schedule", schedules).chain(users("hook", hooks)).chain(assignments).collect())
}

fn runs(job: &str, name: &str) -> bool {
    let job: Option<JobTemplate> = serde_json::from_str(job).ok();
    let is_meant = |script: &str| {
        LibraryReference::parse(script).is_some_and(|reference| reference.name == name)
    };
    job.is_some_and(|job| job.scripts().any(is_meant))
}
