//! Changes scripts: each save creates a version, and a roll back makes an existing version current.

use muster_protocol::library::{MAX_VERSION_NUMBER, ScriptDocument};
use serde_json::json;

use super::{
    Library, MAX_SCRIPT_VERSIONS, MAX_SCRIPTS, ScriptContentRequest, ScriptRequest, ScriptSnapshot,
    UNKNOWN, VersionSnapshot, detail, subject,
};
use crate::domain::access::principal::Scope;
use crate::domain::ids::{ScriptId, ScriptVersionId};
use crate::domain::library::records::{ScriptRecord, ScriptUse, ScriptVersionRecord};
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::require_unlimited;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::entities::library::script_version;
use crate::store::queries::{
    LIBRARY_FULL, NewVersion, SCRIPT_NAME_TAKEN, ScriptDeletion, TOO_MANY_SCRIPTS,
};

impl Library {
    /// Creates a script with its first version.
    ///
    /// # Errors
    /// 422 names the field; 409 `script_exists`, `too_many_scripts` or `library_full`.
    pub async fn create(
        &self,
        caller: &Caller,
        name: &str,
        request: ScriptRequest,
        content: ScriptContentRequest,
    ) -> Result<ScriptSnapshot> {
        require_write(caller)?;
        let document = content.document(name, 1)?;
        let now = self.clock.now();
        let mut row = ScriptRecord {
            id: ScriptId::new(),
            tenant_id: caller.principal.tenant_id,
            name: name.to_owned(),
            folder: String::new(),
            tags: Vec::new(),
            description: String::new(),
            default_target: None,
            current_version: 1,
            latest_version: 1,
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
        };
        request.apply(&mut row)?;
        let version = new_version(caller, &row, &document, content, now);
        let current = ScriptVersionRecord::from(version.row.clone());
        let detail = detail(&row, &current.document);
        let audit = caller.audit("script.create", subject(row.id), &detail, now);
        let tenant = self.store.tenant(row.tenant_id);
        tenant
            .create_script(row.clone().into(), version, MAX_SCRIPTS, audit)
            .await
            .map_err(refused)?;
        Ok(ScriptSnapshot { row, current })
    }

    /// Changes the properties of a script, and which version is current.
    ///
    /// # Errors
    /// 422 names the field; 409 `script_changed` if it was changed meanwhile, or has another latest version than
    /// expected.
    pub async fn update(
        &self,
        caller: &Caller,
        id: ScriptId,
        request: ScriptRequest,
    ) -> Result<ScriptSnapshot> {
        require_write(caller)?;
        let was = self.find(caller, id).await?;
        check_latest(request.expected_version, &was)?;
        let mut row = was.clone();
        if let Some(version) = request.current_version {
            check_number("current_version", version)?;
            if !(1..=was.latest_version).contains(&version) {
                let bounds = 1..=u64::from(was.latest_version);
                return Err(ServiceError::out_of_range("current_version", version.into(), bounds));
            }
            row.current_version = version;
        }
        request.apply(&mut row)?;
        if row == was {
            return self.snapshot(caller, row).await;
        }
        row.changed_at = self.clock.now();
        let changed = json!({
            "name": row.name, "folder": row.folder, "tags": row.tags,
            "current_version": row.current_version, "previous_version": was.current_version,
        });
        let audit = caller.audit("script.update", subject(id), &changed, row.changed_at);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.change_script(was.into(), row.clone().into(), None, audit).await? {
            true => self.snapshot(caller, row).await,
            false => Err(changed_meanwhile()),
        }
    }

    /// Saves a version. It becomes the current one if `is_current` is true.
    ///
    /// # Errors
    /// 422 names the field; 409 `script_changed` if `expected` is not the latest version any more,
    /// `too_many_versions` or `library_full`.
    pub async fn save(
        &self,
        caller: &Caller,
        id: ScriptId,
        content: ScriptContentRequest,
        is_current: bool,
        expected: Option<u32>,
    ) -> Result<VersionSnapshot> {
        require_write(caller)?;
        let was = self.find(caller, id).await?;
        check_latest(expected, &was)?;
        let number = was.latest_version + 1;
        if number > MAX_SCRIPT_VERSIONS {
            return Err(ServiceError::Conflict {
                code: "too_many_versions",
                detail: format!(
                    "a script has at most {MAX_SCRIPT_VERSIONS} versions; create another script"
                ),
            });
        }
        let document = content.document(&was.name, number)?;
        let body = content.body.clone();
        let now = self.clock.now();
        let current_version = if is_current { number } else { was.current_version };
        let row = ScriptRecord {
            latest_version: number,
            current_version,
            changed_at: now,
            ..was.clone()
        };
        let version = new_version(caller, &row, &document, content, now);
        let saved = ScriptVersionRecord::from(version.row.clone());
        let detail = detail(&row, &saved.document);
        let audit = caller.audit("script.save", subject(id), &detail, now);
        let tenant = self.store.tenant(row.tenant_id);
        let changed =
            tenant.change_script(was.into(), row.clone().into(), Some(version), audit).await;
        if !changed.map_err(refused)? {
            return Err(changed_meanwhile());
        }
        let author_name = Some(caller.principal.name.clone());
        Ok(VersionSnapshot { body: Some(body), author_name, ..VersionSnapshot::of(saved, &row) })
    }

    /// Deletes a script with its versions. Work that waits for a host does not run any more.
    ///
    /// # Errors
    /// 409 `script_in_use` names schedules, hooks and assignments that run it, unless `is_forced`.
    pub async fn delete(&self, caller: &Caller, id: ScriptId, is_forced: bool) -> Result<()> {
        require_write(caller)?;
        let row = self.find(caller, id).await?;
        let detail = json!({"name": row.name, "latest_version": row.latest_version});
        let audit = caller.audit("script.delete", subject(id), &detail, self.clock.now());
        match self.store.tenant(row.tenant_id).delete_script(id, is_forced, audit).await? {
            ScriptDeletion::Deleted => {
                self.assignments_changed.notify_one();
                Ok(())
            }
            ScriptDeletion::Unknown => Err(UNKNOWN),
            ScriptDeletion::InUse(uses) => Err(in_use(caller, &uses)),
        }
    }
}

/// Checks the right to change the library. What is saved here runs for others, also beyond the limits of
/// a key.
pub(super) fn require_write(caller: &Caller) -> Result<()> {
    caller.require(Scope::ScriptsWrite)?;
    require_unlimited(caller, "scripts of the library run for others too")
}

fn new_version(
    caller: &Caller,
    script: &ScriptRecord,
    document: &ScriptDocument,
    content: ScriptContentRequest,
    now: Timestamp,
) -> NewVersion {
    let row = script_version::Model {
        id: ScriptVersionId::new(),
        tenant_id: script.tenant_id,
        script_id: script.id,
        version: document.version.cast_signed(),
        document: document.to_text(),
        body_bytes: content.body.len() as i64,
        message: content.message,
        author_id: caller.principal.id,
        created_at: now,
    };
    NewVersion { row, body: content.body }
}

/// Names what uses a script, if the caller may see it.
fn in_use(caller: &Caller, uses: &[ScriptUse]) -> ServiceError {
    let users = if caller.principal.may(Scope::SchedulesRead) {
        let named: Vec<_> = uses.iter().map(|one| format!("{} `{}`", one.kind, one.name)).collect();
        named.join(", ")
    } else {
        "schedules, hooks or assignments that you may not see".to_owned()
    };
    ServiceError::Conflict {
        code: "script_in_use",
        detail: format!(
            "this script is run by {users}; change or delete them first, or force the deletion"
        ),
    }
}

fn refused(error: StoreError) -> ServiceError {
    let (code, detail) = match error {
        StoreError::Refused(SCRIPT_NAME_TAKEN) => {
            ("script_exists", "a script of the library has this name already".to_owned())
        }
        StoreError::Refused(TOO_MANY_SCRIPTS) => (
            "too_many_scripts",
            format!("a tenant has at most {MAX_SCRIPTS} scripts; delete one first"),
        ),
        StoreError::Refused(LIBRARY_FULL) => (
            "library_full",
            "the scripts of a tenant have at most 256 MiB; delete one first".to_owned(),
        ),
        error => return error.into(),
    };
    ServiceError::Conflict { code, detail }
}

/// Refuses a change by a person who does not know the latest version.
fn check_latest(expected: Option<u32>, script: &ScriptRecord) -> Result<()> {
    expected.map_or(Ok(()), |expected| check_number("expected_version", expected))?;
    match expected.is_some_and(|expected| expected != script.latest_version) {
        true => Err(changed_meanwhile()),
        false => Ok(()),
    }
}

fn changed_meanwhile() -> ServiceError {
    ServiceError::Conflict {
        code: "script_changed",
        detail: "the script was changed meanwhile; read it again, then repeat".into(),
    }
}

/// Checks that a number is in the range of version numbers.
fn check_number(field: &str, version: u32) -> Result<()> {
    let bounds = 1..=u64::from(MAX_VERSION_NUMBER);
    match bounds.contains(&version.into()) {
        true => Ok(()),
        false => Err(ServiceError::out_of_range(field, version.into(), bounds)),
    }
}
