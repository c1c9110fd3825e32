//! People create an account and a tenant of their own, after they proved that they read the mails of the
//! address.
//!
//! Neither answers nor times show whether an address has an account: the same is hashed, stored and sent.

use std::num::NonZeroU32;

use serde_json::json;
use zeroize::Zeroizing;

use super::passwords::Passwords;
use super::setup::{NewPerson, check, record};
use super::sign_in::limiter::SignInLimiter;
use crate::domain::access::people::verification_code::{CODE_MS, VerificationCode, presented_hash};
use crate::domain::access::principal::Role;
use crate::domain::access::records::MemberRecord;
use crate::domain::access::tenants::plan::Plan;
use crate::domain::ids::{MemberId, RegistrationId, TenantId, UserId};
use crate::domain::name::check_name;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{Clock, Timestamp};
use crate::services::access::caller::{AuditAction, Client, Subject};
use crate::services::access::keys::lookup_limiter::LookupLimiter;
use crate::services::access::mails::{Letter, Mails};
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::{member, registration, tenant, user};
use crate::store::queries::{Letters, NewAccount, RegistrationResult, VerificationResult};

/// Registrations per minute, and at once: from one address, and for one account.
pub(in crate::services) const REGISTRATIONS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// Codes that are requested again per minute, and at once.
pub(in crate::services) const RESENDS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(3).unwrap();

const INVALID: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_code",
    detail: "the code is wrong or has expired, or was tried too often; register again for another one",
};

/// Use cases of registration.
#[derive(Debug, Clone)]
pub struct Registrations {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) passwords: Passwords,
    pub(in crate::services) mails: Mails,
    pub(in crate::services) lookups: LookupLimiter,
    pub(in crate::services) limiter: SignInLimiter,
    pub(in crate::services) resends: SignInLimiter,
    pub(in crate::services) is_open: bool,
}

/// What a person types.
pub struct NewTenantOwner {
    pub person: NewPerson,
    /// Default: the name of the person.
    pub tenant_name: Option<String>,
}

/// A registration that waits for its code.
#[derive(Debug, Clone, Copy)]
pub struct OpenRegistration {
    pub id: RegistrationId,
    /// Of the code.
    pub expires_at: Timestamp,
}

impl Registrations {
    /// Starts a registration, and sends a code to the address, or a notice if it has an account.
    ///
    /// # Errors
    /// 403 `registration_closed`, 409 `mail_not_configured`, 422 for a field, 503 if too many register;
    /// [`ServiceError::RateLimited`].
    pub async fn register(
        &self,
        client: &Client,
        given: NewTenantOwner,
    ) -> Result<OpenRegistration> {
        self.require_open()?;
        let person = check(given.person)?;
        let tenant_name = given.tenant_name.unwrap_or_else(|| person.name.clone());
        check_name(&tenant_name)
            .map_err(|problem| ServiceError::invalid_field("tenant_name", problem))?;
        let email = person.email.to_string();
        self.limiter.attempt(client.limited_as, &email)?;
        let password_hash = self.passwords.hash(person.password).await?;
        let (id, code, now) =
            (RegistrationId::new(), VerificationCode::random()?, self.clock.now());
        let row = registration::Model {
            id,
            email: email.clone(),
            name: person.name,
            tenant_name,
            password_hash,
            code_hash: code.hash(&self.secret_box, id.0).to_vec(),
            tries: 0,
            codes_sent: 1,
            is_known: false,
            created_at: now,
            expires_at: now.plus_ms(CODE_MS),
        };
        let expires_at = row.expires_at;
        let letter = Letter::RegistrationCode { code: code.text() };
        let letters = Letters {
            code: self.mails.compose(&email, &letter)?,
            in_use: self.mails.compose(&email, &Letter::AddressInUse)?,
            decoy: self.mails.decoy(&letter)?,
        };
        match self.store.system().register(row, letters).await? {
            RegistrationResult::Stored => {}
            RegistrationResult::TooMany => {
                return Err(ServiceError::Busy {
                    code: "too_many_registrations",
                    detail: "too many people register at the moment; try again later",
                });
            }
        }
        self.mails.wake();
        Ok(OpenRegistration { id, expires_at })
    }

    /// Sends another code. The answer is the same for a registration that does not exist.
    ///
    /// # Errors
    /// 403 `registration_closed`, 409 `mail_not_configured`; [`ServiceError::RateLimited`].
    pub async fn resend(&self, client: &Client, id: RegistrationId) -> Result<OpenRegistration> {
        self.require_open()?;
        self.resends.attempt(client.limited_as, &id.to_string())?;
        let (code, now) = (VerificationCode::random()?, self.clock.now());
        let found = self.store.system().registration(id).await?;
        let email = found.map_or_else(|| "nobody@invalid".to_owned(), |row| row.email);
        let letter = Letter::RegistrationCode { code: code.text() };
        let mails = (self.mails.compose(&email, &letter)?, self.mails.decoy(&letter)?);
        let hash = code.hash(&self.secret_box, id.0).to_vec();
        self.store.system().resend_code(id, hash, mails, now).await?;
        self.mails.wake();
        Ok(OpenRegistration { id, expires_at: now.plus_ms(CODE_MS) })
    }

    /// Makes the tenant and its owner with the right code, once.
    ///
    /// # Errors
    /// 403 `registration_closed`, 401 `invalid_code`; [`ServiceError::TooMany`] if the source tries too many
    /// codes.
    pub async fn verify(
        &self,
        client: &Client,
        id: RegistrationId,
        code: Zeroizing<String>,
    ) -> Result<MemberRecord> {
        self.require_open()?;
        if client.limited_as.is_some_and(|source| !self.lookups.may_look_up(source)) {
            return Err(ServiceError::TooMany {
                code: "too_many_unknown_keys",
                detail: "too many unknown keys were sent from this address; check the key and try again later",
            });
        }
        let now = self.clock.now();
        let presented = presented_hash(&self.secret_box, id.0, &code);
        let client_of_audit = client.clone();
        let make = move |row: &registration::Model| account(row, &client_of_audit, now);
        match self.store.system().verify_registration(id, presented, now, make).await? {
            VerificationResult::Created(new) => Ok(record(&new.user, &new.member, &new.tenant)),
            VerificationResult::Invalid => {
                client.limited_as.inspect(|source| self.lookups.record_failure(*source));
                Err(INVALID)
            }
        }
    }

    fn require_open(&self) -> Result<()> {
        if !self.is_open {
            return Err(ServiceError::Forbidden {
                code: "registration_closed",
                detail: "people can't register at this server; ask an owner for an invitation, or its operator to set `registration` to `open`".into(),
            });
        }
        self.mails.require()
    }
}

fn account(row: &registration::Model, client: &Client, now: Timestamp) -> NewAccount {
    let tenant = tenant::Model {
        id: TenantId::new(),
        name: row.tenant_name.clone(),
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
    let user = user::Model {
        id: UserId::new(),
        email: row.email.clone(),
        name: row.name.clone(),
        password_hash: row.password_hash.clone(),
        created_at: now,
    };
    let member = member::Model {
        id: MemberId::new(),
        tenant_id: tenant.id,
        user_id: user.id,
        role: Role::Owner,
        created_at: now,
        removed_at: None,
        removed_by: None,
        is_from_setup: false,
    };
    let entry = |action, subject, detail: &serde_json::Value| {
        let action = AuditAction { tenant_id: tenant.id, action, subject, detail, at: now };
        action.by_member(member.id, None, client)
    };
    let of_tenant = Subject { kind: "tenant", id: tenant.id.0 };
    let of_member = Subject { kind: "member", id: member.id.0 };
    let audits = vec![
        entry("tenant.create", of_tenant, &json!({"name": tenant.name, "plan": tenant.plan})),
        entry("member.create", of_member, &json!({"email": user.email, "role": member.role})),
    ];
    NewAccount { tenant, user, member, audits }
}
