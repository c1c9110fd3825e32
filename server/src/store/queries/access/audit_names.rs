//! Names of principals and of what audit entries speak of, as they are now.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};
use uuid::Uuid;

use crate::domain::access::records::AuditRecord;
use crate::domain::ids::PrincipalId;
use crate::store::StoreError;
use crate::store::entities::access::{agent_key, api_key, member, tenant, user};
use crate::store::entities::commands::{approval_rule, command, job};
use crate::store::entities::fleet::agent;
use crate::store::entities::integrations::{alert_rule, integration};
use crate::store::entities::library::{assignment, package, script, uploaded_file};
use crate::store::entities::releases::group;
use crate::store::entities::schedules::{calendar, hook, schedule};
use crate::store::queries::TenantScope;
use crate::store::writer::rows::pad_to_power_of_two;

impl TenantScope {
    /// Adds the names of actors and subjects that the tenant still has. A job and a command are named by
    /// their script, a member by the person's name.
    pub async fn name_audit_entries(&self, entries: &mut [AuditRecord]) -> Result<(), StoreError> {
        let mut ids: BTreeMap<String, BTreeSet<Uuid>> = BTreeMap::new();
        for entry in entries.iter() {
            let actor = entry.actor_id.map(|id| (&entry.actor_kind, id));
            let subject = entry.subject_id.map(|id| (&entry.subject_kind, id));
            for (kind, id) in actor.into_iter().chain(subject) {
                ids.entry(kind.clone()).or_default().insert(id);
            }
        }
        let mut names: BTreeMap<Uuid, String> = BTreeMap::new();
        for (kind, ids) in ids {
            names.extend(self.names_of(&kind, pad_to_power_of_two(ids)).await?);
        }
        for entry in entries {
            let name = |id: Option<Uuid>| id.and_then(|id| names.get(&id).cloned());
            entry.actor_name = name(entry.actor_id);
            entry.subject_name = name(entry.subject_id);
        }
        Ok(())
    }

    /// Current names of API keys and members that the tenant still has.
    pub async fn principal_names(
        &self,
        ids: BTreeSet<PrincipalId>,
    ) -> Result<BTreeMap<PrincipalId, String>, StoreError> {
        let mut names = BTreeMap::new();
        if ids.is_empty() {
            return Ok(names);
        }
        let ids: BTreeSet<Uuid> = ids.into_iter().map(|id| id.0).collect();
        for kind in ["api_key", "member"] {
            let found = self.names_of(kind, pad_to_power_of_two(ids.clone())).await?;
            names.extend(found.into_iter().map(|(id, name)| (PrincipalId(id), name)));
        }
        Ok(names)
    }

    async fn names_of(
        &self,
        kind: &str,
        ids: Vec<Uuid>,
    ) -> Result<Vec<(Uuid, String)>, StoreError> {
        macro_rules! names {
            ($entity:ident, $name:ident) => {
                $entity::Entity::find()
                    .select_only()
                    .column($entity::Column::Id)
                    .column($entity::Column::$name)
                    .filter($entity::Column::TenantId.eq(self.tenant_id))
                    .filter($entity::Column::Id.is_in(ids))
                    .into_tuple()
                    .all(&self.reader)
                    .await?
            };
        }
        Ok(match kind {
            "agent" => names!(agent, Name),
            "agent_key" => names!(agent_key, Name),
            "alert_rule" => names!(alert_rule, Name),
            "api_key" => names!(api_key, Name),
            "approval_rule" => names!(approval_rule, Name),
            "assignment" => names!(assignment, Name),
            "calendar" => names!(calendar, Name),
            "command" => {
                let found: Vec<(Uuid, Option<String>)> = names!(command, Script);
                found.into_iter().filter_map(|(id, script)| Some((id, script?))).collect()
            }
            "file" => names!(uploaded_file, Name),
            "group" => names!(group, Name),
            "hook" => names!(hook, Name),
            "integration" => names!(integration, Name),
            "job" => names!(job, Script),
            "package" => names!(package, Name),
            "schedule" => names!(schedule, Name),
            "script" => names!(script, Name),
            "member" => {
                let members: Vec<(Uuid, Uuid)> = names!(member, UserId);
                let users = user::Entity::find()
                    .select_only()
                    .column(user::Column::Id)
                    .column(user::Column::Name)
                    .filter(user::Column::Id.is_in(members.iter().map(|(_, user)| *user)));
                let users: Vec<(Uuid, String)> = users.into_tuple().all(&self.reader).await?;
                let users: BTreeMap<Uuid, String> = users.into_iter().collect();
                let named = |(id, user): (Uuid, Uuid)| Some((id, users.get(&user)?.clone()));
                members.into_iter().filter_map(named).collect()
            }
            "tenant" if ids.contains(&self.tenant_id.0) => {
                let found = tenant::Entity::find_by_id(self.tenant_id).all(&self.reader).await?;
                found.into_iter().map(|row| (row.id.0, row.name)).collect()
            }
            _ => Vec::new(),
        })
    }
}
