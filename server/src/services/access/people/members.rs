//! Members of a tenant: owners change their roles and remove them.

use serde_json::json;

use super::confirmation::require_confirmed;
use super::setup::record;
use crate::domain::access::principal::{Role, Scope};
use crate::domain::access::records::MemberRecord;
use crate::domain::ids::MemberId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::{member, user};
use crate::store::queries::MemberChange;

const UNKNOWN: ServiceError = ServiceError::NotFound("member");

/// Use cases of members.
#[derive(Debug, Clone)]
pub struct Members {
    pub(in crate::services) store: Store,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) clock: Clock,
}

impl Members {
    /// One page of members.
    ///
    /// # Errors
    /// 403 without `members:read`.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<MemberRecord>> {
        caller.require(Scope::MembersRead)?;
        let tenant_id = caller.principal.tenant_id;
        let rows = self.store.tenant(tenant_id).members(page).await?;
        let tenant = self.store.tenant(tenant_id).tenant().await?;
        let tenant = tenant.ok_or(ServiceError::NotFound("tenant"))?;
        let page = Page::of(rows, page, |(member, _)| member.id.0);
        Ok(page.map(|(member, user)| record(&user, &member, &tenant)))
    }

    /// Gives a member another role. One whose role loses a right becomes another member: its sessions,
    /// its keys and its queued work end.
    ///
    /// # Errors
    /// 403 without `members:write`, for an API key and without a recent proof of the password; 404; 409
    /// `last_owner`.
    pub async fn set_role(
        &self,
        caller: &Caller,
        id: MemberId,
        role: Role,
    ) -> Result<MemberRecord> {
        caller.require(Scope::MembersWrite)?;
        require_confirmed(&self.store, &self.clock, caller).await?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let (_, user) = tenant.member(id).await?.ok_or(UNKNOWN)?;
        let now = self.clock.now();
        let detail = json!({"email": user.email, "role": role});
        let audit = caller.audit("member.update", subject(id), &detail, now);
        let change = tenant.set_member_role(id, role, MemberId::new(), now, audit).await?;
        self.changed(user, change).await
    }

    /// Removes a member: its sessions, its keys and its queued work end. Each member may remove itself.
    ///
    /// # Errors
    /// As [`Self::set_role`].
    pub async fn remove(&self, caller: &Caller, id: MemberId) -> Result<()> {
        let is_self = caller.principal.session_id().is_some() && caller.principal.id == id.into();
        if !is_self {
            caller.require(Scope::MembersWrite)?;
        }
        require_confirmed(&self.store, &self.clock, caller).await?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let (_, user) = tenant.member(id).await?.ok_or(UNKNOWN)?;
        let now = self.clock.now();
        let audit = caller.audit("member.delete", subject(id), &json!({"email": user.email}), now);
        let change = tenant.remove_member(id, now, audit).await?;
        self.changed(user, change).await.map(drop)
    }

    async fn changed(&self, user: user::Model, change: MemberChange) -> Result<MemberRecord> {
        let member: member::Model = match change {
            MemberChange::Changed(member) => member,
            MemberChange::Unknown => return Err(UNKNOWN),
            MemberChange::LastOwner => {
                return Err(ServiceError::Conflict {
                    code: "last_owner",
                    detail:
                        "this is the last owner of the tenant; make another member an owner first"
                            .into(),
                });
            }
        };
        self.cache.forget_principals();
        let tenant = self.store.tenant(member.tenant_id).tenant().await?;
        let tenant = tenant.ok_or(ServiceError::NotFound("tenant"))?;
        Ok(record(&user, &member, &tenant))
    }
}

fn subject(id: MemberId) -> Subject {
    Subject { kind: "member", id: id.0 }
}
