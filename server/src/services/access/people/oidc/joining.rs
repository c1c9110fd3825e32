//! Whose account an identity is, and what its provider's claims change in a tenant: people join by them,
//! their role follows them, and their rights end with them.

use serde_json::{Value, json};

use super::OidcSignIn;
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::oidc_provider::{Grant, OidcClaims, OidcProvider};
use crate::domain::access::principal::Role;
use crate::domain::access::tenants::plan::Plan;
use crate::domain::ids::{IdentityId, InvitationId, MemberId, TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::services::access::caller::{AuditAction, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::{audit_entry, identity, member, tenant, user};
use crate::store::queries::{IdentityJoin, MemberChange};

/// A person with a membership to sign in to.
pub(super) struct JoinedPerson {
    pub identity_id: IdentityId,
    pub user: user::Model,
    pub member: member::Model,
    pub tenant: tenant::Model,
}

/// What a person without a membership joins by.
struct JoinReason {
    tenant: Option<tenant::Model>,
    tenant_id: TenantId,
    role: Role,
    invitation: Option<InvitationId>,
    follows: bool,
}

const NOT_INVITED: &str = "you are no member of a tenant here; ask an owner to invite you, or your provider for the group";

impl OidcSignIn {
    /// The account of an identity, after its membership was brought in line with the claims.
    pub(super) async fn joined(
        &self,
        provider: &OidcProvider,
        claims: &OidcClaims,
    ) -> Result<JoinedPerson> {
        let system = self.sign_in.store.system();
        let known = system.identity(&provider.issuer, &claims.subject).await?;
        let (identity, user) = match known {
            Some(identity) => {
                let user = system.person(identity.user_id).await?;
                (identity, user.ok_or_else(not_invited)?)
            }
            None => self.new_person(provider, claims).await?,
        };
        self.follow_claims(provider, claims, &identity, &user).await?;
        let mut memberships = system.memberships(user.id).await?;
        if memberships.is_empty() {
            self.join_again(provider, claims, &identity, &user).await?;
            memberships = system.memberships(user.id).await?;
        }
        let (member, tenant) = memberships.into_iter().next().ok_or_else(not_invited)?;
        Ok(JoinedPerson { identity_id: identity.id, user, member, tenant })
    }

    /// Makes an account. Never for an address that has one: its person must link the identity.
    async fn new_person(
        &self,
        provider: &OidcProvider,
        claims: &OidcClaims,
    ) -> Result<(identity::Model, user::Model)> {
        let email = claims.email.as_ref().ok_or_else(|| ServiceError::Forbidden {
            code: "not_invited",
            detail:
                "the provider has not verified an address of yours, so no invitation can be found"
                    .into(),
        })?;
        if self.sign_in.store.system().user(email.as_str()).await?.is_some() {
            return Err(ServiceError::Conflict {
                code: "identity_not_linked",
                detail:
                    "there is an account with your address; sign in to it and link the provider"
                        .into(),
            });
        }
        let reason = self.reason(provider, claims, None).await?.ok_or_else(not_invited)?;
        let now = self.sign_in.clock.now();
        let user = new_user(email, claims.name.as_deref(), now);
        let identity = identity::Model {
            id: IdentityId::new(),
            user_id: user.id,
            issuer: provider.issuer.clone(),
            subject: claims.subject.clone(),
            created_at: now,
            follows_in: reason.follows.then_some(reason.tenant_id),
        };
        let join = IdentityJoin {
            identity: Some(identity.clone()),
            user: Some(user.clone()),
            ..self.join(provider, &user, reason)
        };
        self.store(join).await?;
        Ok((identity, user))
    }

    /// Of a person whose memberships have ended.
    async fn join_again(
        &self,
        provider: &OidcProvider,
        claims: &OidcClaims,
        identity: &identity::Model,
        user: &user::Model,
    ) -> Result<()> {
        let reason = self.reason(provider, claims, Some(user)).await?.ok_or_else(not_invited)?;
        let follows = reason.follows.then_some(identity.id);
        self.store(IdentityJoin { follows, ..self.join(provider, user, reason) }).await
    }

    /// `user`: a person who has an account.
    async fn reason(
        &self,
        provider: &OidcProvider,
        claims: &OidcClaims,
        user: Option<&user::Model>,
    ) -> Result<Option<JoinReason>> {
        let now = self.sign_in.clock.now();
        if let Some((tenant_id, grant)) = provider.tenant_id.zip(provider.grant(claims)) {
            let granted = self.granted(tenant_id, grant, claims, user).await?;
            return granted.map(Some).ok_or_else(removed);
        }
        let Some(email) = &claims.email else { return Ok(None) };
        // A provider of one tenant proves nothing to another one.
        let tenant_id = provider.tenant_id;
        let system = self.sign_in.store.system();
        let invitation = system.invitation_for(email.as_str(), tenant_id, now).await?;
        if let Some(row) = invitation {
            let (tenant_id, role) = (row.tenant_id, row.role);
            let invitation = Some(row.id);
            return Ok(Some(JoinReason {
                tenant: None,
                tenant_id,
                role,
                invitation,
                follows: false,
            }));
        }
        if !provider.creates_tenants {
            return Ok(None);
        }
        let row = tenant::Model {
            id: TenantId::new(),
            name: email.to_string(),
            plan: Plan::DEFAULT,
            created_at: now,
            delete_at: None,
            is_deleted_by_operator: false,
            requires_second_factor: false,
            passes_schedules_on: false,
            storage_quota_bytes: None,
            manifest_bytes: 0,
            manifest_scripts: 0,
        };
        let (tenant_id, role) = (row.id, Role::Owner);
        Ok(Some(JoinReason {
            tenant: Some(row),
            tenant_id,
            role,
            invitation: None,
            follows: false,
        }))
    }

    /// Membership by a grant of the provider; `None` for a person whom a member removed, until it is
    /// invited again.
    async fn granted(
        &self,
        tenant_id: TenantId,
        grant: Grant,
        claims: &OidcClaims,
        user: Option<&user::Model>,
    ) -> Result<Option<JoinReason>> {
        let system = self.sign_in.store.system();
        let mut invitation = None;
        if let Some(user) = user
            && system.is_removed_by_member(tenant_id, user.id).await?
        {
            let now = self.sign_in.clock.now();
            let Some(email) = &claims.email else { return Ok(None) };
            invitation = system.invitation_for(email.as_str(), Some(tenant_id), now).await?;
            if invitation.is_none() {
                return Ok(None);
            }
        }
        let (role, invitation) = (grant.first_role(), invitation.map(|row| row.id));
        Ok(Some(JoinReason { tenant: None, tenant_id, role, invitation, follows: true }))
    }

    fn join(
        &self,
        provider: &OidcProvider,
        user: &user::Model,
        reason: JoinReason,
    ) -> IdentityJoin {
        let now = self.sign_in.clock.now();
        let member = member::Model {
            id: MemberId::new(),
            tenant_id: reason.tenant_id,
            user_id: user.id,
            role: reason.role,
            created_at: now,
            removed_at: None,
            removed_by: None,
            is_from_setup: false,
        };
        let detail = json!({"email": user.email, "role": member.role, "provider": provider.name,
            "invitation_id": reason.invitation});
        let mut audits = Vec::new();
        if let Some(row) = &reason.tenant {
            let subject = Subject { kind: "tenant", id: row.id.0 };
            let detail = json!({"name": row.name, "provider": provider.name});
            audits.push(entry(reason.tenant_id, "tenant.create", subject, &detail, now));
        }
        let subject = Subject { kind: "member", id: member.id.0 };
        audits.push(entry(reason.tenant_id, "member.create", subject, &detail, now));
        IdentityJoin {
            tenant: reason.tenant,
            invitation: reason.invitation,
            member: Some(member),
            audits,
            ..IdentityJoin::default()
        }
    }

    async fn store(&self, join: IdentityJoin) -> Result<()> {
        match self.sign_in.store.system().join_by_identity(join).await? {
            true => Ok(()),
            false => Err(ServiceError::Conflict {
                code: "account_changed",
                detail: "the account or the invitation has changed meanwhile; sign in again".into(),
            }),
        }
    }

    /// In the tenant of the provider: a person who has a grant joins, a role that follows the provider
    /// changes with it, and a membership that follows it ends without a grant.
    async fn follow_claims(
        &self,
        provider: &OidcProvider,
        claims: &OidcClaims,
        identity: &identity::Model,
        user: &user::Model,
    ) -> Result<()> {
        let Some(tenant_id) = provider.tenant_id else { return Ok(()) };
        let memberships = self.sign_in.store.system().memberships(user.id).await?;
        let member = memberships.iter().find(|(member, _)| member.tenant_id == tenant_id);
        let member = member.map(|(member, _)| member);
        let follows = identity.follows_in == Some(tenant_id);
        match (provider.grant(claims), member) {
            (Some(grant), None) => {
                let reason = self.granted(tenant_id, grant, claims, Some(user)).await?;
                // A member has removed the person, who may be a member elsewhere.
                let Some(reason) = reason else { return Ok(()) };
                let follows = Some(identity.id);
                self.store(IdentityJoin { follows, ..self.join(provider, user, reason) }).await
            }
            (Some(Grant::Exactly(role)), Some(member)) if follows && member.role != role => {
                self.set_role(provider, member, role).await
            }
            (None, Some(member)) if follows => self.end(provider, member).await,
            _ => Ok(()),
        }
    }

    async fn set_role(
        &self,
        provider: &OidcProvider,
        member: &member::Model,
        role: Role,
    ) -> Result<()> {
        let now = self.sign_in.clock.now();
        let subject = Subject { kind: "member", id: member.id.0 };
        let detail = json!({"role": role, "provider": provider.name});
        let audit = entry(member.tenant_id, "member.update", subject, &detail, now);
        let tenant = self.sign_in.store.tenant(member.tenant_id);
        let change = tenant.set_member_role(member.id, role, MemberId::new(), now, audit).await?;
        self.changed(change)
    }

    async fn end(&self, provider: &OidcProvider, member: &member::Model) -> Result<()> {
        let now = self.sign_in.clock.now();
        let subject = Subject { kind: "member", id: member.id.0 };
        let detail = json!({"reason": "provider_grants_nothing", "provider": provider.name});
        let audit = entry(member.tenant_id, "member.delete", subject, &detail, now);
        let tenant = self.sign_in.store.tenant(member.tenant_id);
        let change = tenant.remove_member(member.id, now, audit).await?;
        self.changed(change)
    }

    fn changed(&self, change: MemberChange) -> Result<()> {
        if change == MemberChange::LastOwner {
            return Err(ServiceError::Conflict {
                code: "last_owner",
                detail: "the provider would remove the role of the tenant's last owner; make another member an owner first".into(),
            });
        }
        self.sign_in.cache.forget_principals();
        Ok(())
    }
}

fn removed() -> ServiceError {
    ServiceError::Forbidden {
        code: "member_removed",
        detail: "you were removed from the tenant; ask an owner to invite you again".into(),
    }
}

fn not_invited() -> ServiceError {
    ServiceError::Forbidden { code: "not_invited", detail: NOT_INVITED.into() }
}

/// Without a password: only a provider proves the person.
fn new_user(email: &EmailAddress, name: Option<&str>, now: Timestamp) -> user::Model {
    let local = email.as_str().split('@').next().unwrap_or_default();
    user::Model {
        id: UserId::new(),
        email: email.to_string(),
        name: name.unwrap_or(local).to_owned(),
        password_hash: String::new(),
        created_at: now,
    }
}

fn entry(
    tenant_id: TenantId,
    action: &'static str,
    subject: Subject,
    detail: &Value,
    at: Timestamp,
) -> audit_entry::Model {
    AuditAction { tenant_id, action, subject, detail, at }.by_system()
}
