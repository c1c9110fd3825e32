//! What of a tenant submits a script of the library later: schedules and hooks.

use muster_protocol::library::{LIBRARY_PREFIX, LibraryReference};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use crate::domain::ids::TenantId;
use crate::domain::library::records::ScriptUse;
use crate::domain::schedules::records::JobTemplate;
use crate::store::StoreError;
use crate::store::entities::schedules::{hook, schedule};

/// Schedules and hooks that are named, of each kind.
const MAX_USES: usize = 20;

/// The first schedules and hooks whose job runs a script, oldest first.
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
    let users = |kind, rows: Vec<(String, String)>| {
        let of_script = rows.into_iter().filter(|(_, job)| runs(job, name)).take(MAX_USES);
        of_script.map(move |(name, _)| ScriptUse { kind, name })
    };
    Ok(users("schedule", schedules).chain(users("hook", hooks)).collect())
}

fn runs(job: &str, name: &str) -> bool {
    let job: Option<JobTemplate> = serde_json::from_str(job).ok();
    let is_meant = |script: &str| {
        LibraryReference::parse(script).is_some_and(|reference| reference.name == name)
    };
    job.is_some_and(|job| job.scripts().any(is_meant))
}
