//! Invitations: an owner makes one, and hands over its token; the person who has it becomes a member.

use serde_json::json;
use zeroize::Zeroizing;

use muster_protocol::parameter::secret::is_well_formed;

use super::confirmation::{require_confirmed, require_session};
use super::passwords::Passwords;
use super::setup::{NewPerson, check, record};
use super::sign_in::limiter::SignInLimiter;
use crate::domain::access::credential::{INVITATION_PREFIX, NewSecret, SecretHash};
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::password::MAX_PASSWORD_BYTES;
use crate::domain::access::principal::{Role, Scope};
use crate::domain::access::records::{InvitationRecord, MemberRecord};
use crate::domain::ids::{InvitationId, MemberId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::{AuditAction, Caller, Client, Subject};
use crate::services::access::keys::lookup_limiter::LookupLimiter;
use crate::services::access::mails::{Letter, Mails};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::{invitation, member, user};
use crate::store::queries::{Accepted, NewMember};

/// How long an invitation is open: 7 days.
const INVITATION_MS: u64 = 7 * 24 * 3_600_000;

const INVALID: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_invitation",
    detail: "the invitation was accepted or withdrawn, or has expired; ask an owner for another one",
};
const WRONG_PASSWORD: ServiceError = ServiceError::Unauthenticated {
    code: "wrong_sign_in",
    detail: "the address or the password is wrong",
};

/// Use cases of invitations.
#[derive(Debug, Clone)]
pub struct Invitations {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) passwords: Passwords,
    pub(in crate::services) limiter: SignInLimiter,
    pub(in crate::services) lookups: LookupLimiter,
    pub(in crate::services) mails: Mails,
}

/// An invitation with its token, which is shown only once.
pub struct MadeInvitation {
    pub row: InvitationRecord,
    /// `None` if it was sent to the address by mail.
    pub token: Option<String>,
}

/// What the person who accepts types.
pub struct Acceptance {
    /// Of a new account. Default: the part of the address before the `@`.
    pub name: Option<String>,
    /// Of the account, or for a new one.
    pub password: Zeroizing<String>,
}

impl Invitations {
    /// Invites a person by address. With a mail server, only the address gets the token, so that no other
    /// person can accept in its owner's name. Without one, the person who invites passes it on.
    ///
    /// # Errors
    /// 403 without `members:write`, for an API key and without a recent proof of the password; 409
    /// `too_many_invitations`; 422 for the address.
    pub async fn create(&self, caller: &Caller, email: &str, role: Role) -> Result<MadeInvitation> {
        caller.require(Scope::MembersWrite)?;
        let live = require_confirmed(&self.store, &self.clock, caller).await?;
        let email = EmailAddress::parse(email)
            .map_err(|problem| ServiceError::invalid_field("email", &problem.to_string()))?;
        let secret = NewSecret::random(INVITATION_PREFIX)?;
        let now = self.clock.now();
        let row = invitation::Model {
            id: InvitationId::new(),
            tenant_id: caller.principal.tenant_id,
            email: email.to_string(),
            role,
            token_hash: secret.hash.0.to_vec(),
            created_at: now,
            created_by: live.member.id,
            expires_at: now.plus_ms(INVITATION_MS),
            ended_at: None,
        };
        let detail = json!({"email": row.email, "role": role});
        let audit = caller.audit("invitation.create", subject(row.id), &detail, now);
        let tenant = self.store.tenant(row.tenant_id);
        let letter = Letter::Invitation { token: &secret.secret };
        let mail = self.mails.to_mailbox(email.as_str(), &letter)?;
        let is_mailed = mail.is_some();
        if !tenant.create_invitation(row.clone(), mail, audit).await? {
            return Err(ServiceError::Conflict {
                code: "too_many_invitations",
                detail: "the tenant has 200 open invitations; withdraw some first".into(),
            });
        }
        self.mails.wake();
        Ok(MadeInvitation { row: row.into(), token: (!is_mailed).then_some(secret.secret) })
    }

    /// One page of open invitations.
    ///
    /// # Errors
    /// 403 without `members:read`.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<InvitationRecord>> {
        caller.require(Scope::MembersRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.invitations(page, self.clock.now()).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(InvitationRecord::from))
    }

    /// Withdraws an invitation.
    ///
    /// # Errors
    /// 403 without `members:write` and for an API key; 404 for one that is not open.
    pub async fn withdraw(&self, caller: &Caller, id: InvitationId) -> Result<()> {
        caller.require(Scope::MembersWrite)?;
        require_session(&self.store, caller).await?;
        let now = self.clock.now();
        let audit = caller.audit("invitation.revoke", subject(id), &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.withdraw_invitation(id, now, audit).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound("invitation")),
        }
    }

    /// Checks a token. [`Self::accept`] checks it again, in the transaction that uses it.
    ///
    /// # Errors
    /// 401 `invalid_invitation`; [`ServiceError::TooMany`] if the source presents too many wrong tokens.
    pub async fn check_token(&self, client: &Client, token: &str) -> Result<OpenInvitation> {
        if client.limited_as.is_some_and(|source| !self.lookups.may_look_up(source)) {
            return Err(ServiceError::TooMany {
                code: "too_many_unknown_keys",
                detail: "too many unknown keys were sent from this address; check the key and try again later",
            });
        }
        let now = self.clock.now();
        if is_well_formed(token, INVITATION_PREFIX) {
            let hash = SecretHash::of(token);
            let found = self.store.system().invitation(hash, now).await?;
            // A later one is of a clock that was ahead.
            let found = found.filter(|row| row.expires_at <= now.plus_ms(INVITATION_MS));
            if let Some(row) = found {
                return Ok(OpenInvitation { row, hash });
            }
        }
        client.limited_as.inspect(|source| self.lookups.record_failure(*source));
        Err(INVALID)
    }

    /// Makes the person with the token a member: with the account of the address, whose password must be
    /// right, or with a new one.
    ///
    /// # Errors
    /// 401 `invalid_invitation`, `wrong_sign_in`; 409 `already_member`; 422 for a field of a new account;
    /// [`ServiceError::RateLimited`].
    pub async fn accept(
        &self,
        client: &Client,
        open: OpenInvitation,
        given: Acceptance,
    ) -> Result<MemberRecord> {
        let OpenInvitation { row, hash } = open;
        self.limiter.attempt(client.limited_as, &row.email)?;
        let now = self.clock.now();
        let known = self.store.system().user(&row.email).await?;
        let is_new = known.is_none();
        let user = match known {
            Some(user) => self.prove(user, given.password).await?,
            None => self.new_user(&row.email, given, now).await?,
        };
        let member = member::Model {
            id: MemberId::new(),
            tenant_id: row.tenant_id,
            user_id: user.id,
            role: row.role,
            created_at: now,
            removed_at: None,
            removed_by: None,
            is_from_setup: false,
        };
        let action = AuditAction {
            tenant_id: row.tenant_id,
            action: "invitation.accept",
            subject: subject(row.id),
            detail: &json!({"email": row.email, "role": row.role, "member_id": member.id}),
            at: now,
        };
        let audit = action.by_member(member.id, None, client);
        let new = NewMember { user: user.clone(), is_new, member: member.clone(), audit };
        match self.store.system().accept_invitation(hash, new).await? {
            Accepted::Created => {}
            Accepted::Invalid => return Err(INVALID),
            Accepted::AccountChanged => return Err(WRONG_PASSWORD),
            Accepted::AlreadyMember => {
                return Err(ServiceError::Conflict {
                    code: "already_member",
                    detail: "this person is a member of the tenant already".into(),
                });
            }
        }
        let tenant = self.store.tenant(row.tenant_id).tenant().await?;
        let tenant = tenant.ok_or(ServiceError::NotFound("tenant"))?;
        Ok(record(&user, &member, &tenant))
    }

    async fn prove(&self, user: user::Model, password: Zeroizing<String>) -> Result<user::Model> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(WRONG_PASSWORD);
        }
        match self.passwords.verify(password, Some(user.password_hash.clone())).await? {
            true => Ok(user),
            false => Err(WRONG_PASSWORD),
        }
    }

    async fn new_user(
        &self,
        email: &str,
        given: Acceptance,
        now: Timestamp,
    ) -> Result<user::Model> {
        let Acceptance { name, password } = given;
        let person = check(NewPerson { email: email.to_owned(), name, password })?;
        let password_hash = self.passwords.hash(person.password).await?;
        let email = person.email.to_string();
        Ok(user::Model {
            id: UserId::new(),
            email,
            name: person.name,
            password_hash,
            created_at: now,
        })
    }
}

/// An invitation whose token was right.
pub struct OpenInvitation {
    row: invitation::Model,
    hash: SecretHash,
}

fn subject(id: InvitationId) -> Subject {
    Subject { kind: "invitation", id: id.0 }
}
