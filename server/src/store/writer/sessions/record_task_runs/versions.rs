//! The versions that runs name, so that what a host reports can be compared with them.

use std::collections::{HashMap, HashSet};

use muster_protocol::library::{ScriptDocument, sha256_hex};
use muster_protocol::package::{MIN_TASK_INTERVAL_MS, PackageDocument, TaskRun};
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _};

use super::RecordTaskRuns;
use crate::domain::ids::{AssignmentId, ScriptId};
use crate::domain::library::assignment_records::{AssignedKind, AssignmentRecord};
use crate::store::entities::library::{package, script, script_version};
use crate::store::writer::MAX_LIST;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::rows::pad_to_power_of_two;

/// Those that exist, by the script and the version as assignments and runs name them.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<(String, String), Version>);

#[derive(Debug)]
struct Version {
    /// Of the archive, or of the body.
    sha256: String,
    document: String,
}

impl Versions {
    /// True if a run can be one of its version: its hashes, and for a task its due time. Of a version that is deleted
    /// only the due time can be checked, and that the assignment may have named it.
    pub fn may_have(&self, run: &TaskRun, of: &AssignmentRecord) -> bool {
        let Some(version) = self.of(run, of) else { return may_have_deleted(run, of) };
        let schedule = match of.kind {
            AssignedKind::Script => of.schedule(),
            AssignedKind::Task | AssignedKind::Service => {
                version.package().and_then(|document| document.schedule)
            }
        };
        run.package.sha256 == version.sha256
            && run.package.document_sha256 == sha256_hex(version.document.as_bytes())
            && schedule.is_none_or(|schedule| run.is_service || schedule.may_be_due(run.due_at_ms))
    }

    /// How much of the newest output of a run of a service is kept.
    pub fn log_bytes(&self, run: &TaskRun, of: &AssignmentRecord) -> Option<u64> {
        let document = self.of(run, of).and_then(Version::package);
        let settings = document.and_then(|document| document.service).unwrap_or_default();
        run.is_service.then(|| settings.log_bytes())
    }

    fn of(&self, run: &TaskRun, of: &AssignmentRecord) -> Option<&Version> {
        self.0.get(&(of.script(), run.package.version.clone()))
    }
}

/// An assignment that was never changed has named one version only.
fn may_have_deleted(run: &TaskRun, of: &AssignmentRecord) -> bool {
    let version = &run.package.version;
    let is_canonical = version.parse().is_ok_and(|number: u32| number.to_string() == *version);
    let was_named =
        *version == of.content_version || of.changed_at != of.created_at || of.deleted_at.is_some();
    was_named
        && (of.kind != AssignedKind::Script || is_canonical)
        && of.schedule().is_none_or(|schedule| schedule.may_be_due(run.due_at_ms))
        // No schedule is finer.
        && (run.is_service || run.due_at_ms.is_multiple_of(MIN_TASK_INTERVAL_MS))
}

impl Version {
    fn package(&self) -> Option<PackageDocument> {
        serde_json::from_str(&self.document).ok()
    }
}

impl RecordTaskRuns {
    /// The versions that these runs name, as far as they exist.
    pub(super) async fn versions(
        &self,
        tx: &WriteTx<'_>,
        assignments: &HashMap<AssignmentId, AssignmentRecord>,
    ) -> Result<Versions, DbErr> {
        let mut found = Versions::default();
        let (scripts, packages): (Vec<&AssignmentRecord>, Vec<&AssignmentRecord>) =
            assignments.values().partition(|of| of.kind == AssignedKind::Script);
        if !packages.is_empty() {
            self.read_packages(tx, &packages, &mut found).await?;
        }
        if !scripts.is_empty() {
            self.read_scripts(tx, &scripts, &mut found).await?;
        }
        Ok(found)
    }

    async fn read_packages(
        &self,
        tx: &WriteTx<'_>,
        assignments: &[&AssignmentRecord],
        found: &mut Versions,
    ) -> Result<(), DbErr> {
        let names: HashSet<&str> = assignments.iter().map(|of| of.content_name.as_str()).collect();
        let versions: Vec<&str> = self.named_versions().into_iter().collect();
        for versions in versions.chunks(MAX_LIST) {
            let rows = package::Entity::find()
                .filter(package::Column::TenantId.eq(self.tenant_id))
                .filter(package::Column::Name.is_in(pad_to_power_of_two(names.iter().copied())))
                .filter(
                    package::Column::Version.is_in(pad_to_power_of_two(versions.iter().copied())),
                )
                .all(tx.transaction)
                .await?;
            found.0.extend(rows.into_iter().map(|row| {
                let script = format!("{}{}", AssignedKind::Task.prefix(), row.name);
                let version = Version { sha256: row.sha256, document: row.document };
                ((script, row.version), version)
            }));
        }
        Ok(())
    }

    async fn read_scripts(
        &self,
        tx: &WriteTx<'_>,
        assignments: &[&AssignmentRecord],
        found: &mut Versions,
    ) -> Result<(), DbErr> {
        let names: HashSet<&str> = assignments.iter().map(|of| of.content_name.as_str()).collect();
        let scripts = script::Entity::find()
            .filter(script::Column::TenantId.eq(self.tenant_id))
            .filter(script::Column::Name.is_in(pad_to_power_of_two(names)))
            .all(tx.transaction)
            .await?;
        let ids: Vec<ScriptId> = scripts.iter().map(|script| script.id).collect();
        let versions: Vec<i32> =
            self.named_versions().into_iter().filter_map(|version| version.parse().ok()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        for versions in versions.chunks(MAX_LIST) {
            let rows = script_version::Entity::find()
                .filter(script_version::Column::TenantId.eq(self.tenant_id))
                .filter(
                    script_version::Column::ScriptId
                        .is_in(pad_to_power_of_two(ids.iter().copied())),
                )
                .filter(
                    script_version::Column::Version
                        .is_in(pad_to_power_of_two(versions.iter().copied())),
                )
                .all(tx.transaction)
                .await?;
            found.0.extend(rows.into_iter().filter_map(|row| {
                let document: ScriptDocument = serde_json::from_str(&row.document).ok()?;
                let script = format!("{}{}", AssignedKind::Script.prefix(), document.name);
                let version = Version { sha256: document.sha256, document: row.document };
                Some(((script, row.version.to_string()), version))
            }));
        }
        Ok(())
    }

    fn named_versions(&self) -> HashSet<&str> {
        self.runs.iter().map(|run| run.package.version.as_str()).collect()
    }
}
