//! The first owner of a server: by a one-time token over the network, or at the terminal.

use std::path::Path;

use muster_protocol::parameter::secret::is_well_formed;
use serde_json::json;
use zeroize::Zeroizing;

use super::passwords::Passwords;
use crate::domain::access::credential::{NewSecret, SETUP_TOKEN_PREFIX, SecretHash};
use crate::domain::access::people::email::EmailAddress;
use crate::domain::access::people::password::{
    MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, PasswordProblem, check_password,
};
use crate::domain::access::principal::{ActorKind, Role};
use crate::domain::access::records::MemberRecord;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::ids::{MemberId, PrincipalId, UserId};
use crate::domain::name::check_name;
use crate::domain::time::Clock;
use crate::services::access::authentication::write_key_file;
use crate::services::access::caller::{AuditAction, Client, Subject};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::keys::lookup_limiter::LookupLimiter;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::{audit_entry, member, tenant, user};
use crate::store::queries::{NewOwner, SetupResult, SetupState};

/// The file with the token, in the data directory.
pub const TOKEN_FILE: &str = "setup_token";

const CLOSED: ServiceError = ServiceError::Gone {
    code: "setup_closed",
    detail: "this server was set up before; sign in, or run `muster-server create-owner` on it",
};
const WRONG_TOKEN: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_setup_token",
    detail: "the set-up token is wrong; it is in the file `setup_token` of the server's data directory",
};
const NO_TENANT: ServiceError = ServiceError::NotFound("tenant");

/// Makes the first owner.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) lookups: LookupLimiter,
    pub(in crate::services) passwords: Passwords,
}

/// A person who becomes an owner.
pub struct NewPerson {
    pub email: String,
    /// Default: the part of the address before the `@`.
    pub name: Option<String>,
    pub password: Zeroizing<String>,
}

/// A person whose fields were checked.
pub(super) struct CheckedPerson {
    pub email: EmailAddress,
    pub name: String,
    pub password: Zeroizing<String>,
}

impl Setup {
    /// Over this store alone, for the terminal.
    pub fn new(store: Store, clock: Clock) -> Self {
        let (cache, lookups) = (KeyCache::default(), LookupLimiter::default());
        Self { store, clock, cache, lookups, passwords: Passwords::default() }
    }

    /// Opens set-up while the server has no owner: writes a token to `<data_dir>/setup_token` (0600), and
    /// stores its hash. A token that was written before stays valid. Returns a new token.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] if the file cannot be written.
    pub async fn open(&self, data_dir: &Path) -> Result<Option<String>> {
        let state = self.store.system().setup_state().await?;
        let path = data_dir.join(TOKEN_FILE);
        match state {
            SetupState::Closed => {
                remove_token_file(data_dir);
                return Ok(None);
            }
            SetupState::Open(hash) => {
                let written = std::fs::read_to_string(&path).unwrap_or_default();
                if SecretHash::of(written.trim()) == hash {
                    return Ok(None);
                }
            }
            SetupState::New => {}
        }
        let tenant = self.store.system().first_tenant().await?.ok_or(NO_TENANT)?;
        let secret = NewSecret::random(SETUP_TOKEN_PREFIX)?;
        // Before the commit, so that an open set-up has a token that the operator can read.
        write_key_file(&path, &secret.secret).map_err(|error| ServiceError::Invalid {
            code: "data_dir_not_writable",
            detail: format!("failed to write the set-up token to the data directory: {error}"),
        })?;
        let is_open = self.store.system().open_setup(tenant.id, secret.hash).await?;
        if !is_open {
            remove_token_file(data_dir);
        }
        Ok(is_open.then_some(secret.secret))
    }

    /// Checks a token. [`Setup::complete`] checks it again, in the transaction that uses it.
    ///
    /// # Errors
    /// 401 `invalid_setup_token`, 410 `setup_closed`; [`ServiceError::TooMany`] if the source presents
    /// too many wrong tokens.
    pub async fn check_token(&self, caller: &Client, token: &str) -> Result<SecretHash> {
        if caller.limited_as.is_some_and(|source| !self.lookups.may_look_up(source)) {
            return Err(ServiceError::TooMany {
                code: "too_many_unknown_keys",
                detail: "too many unknown keys were sent from this address; check the key and try again later",
            });
        }
        let presented = match is_well_formed(token, SETUP_TOKEN_PREFIX) {
            true => Some(SecretHash::of(token)),
            false => None,
        };
        match (self.store.system().setup_state().await?, presented) {
            // Whether set-up is over is not secret; only who has no token at all learns nothing.
            (_, None) if token.is_empty() => Err(WRONG_TOKEN),
            (SetupState::Open(hash), Some(presented)) if hash == presented => Ok(presented),
            (SetupState::Open(_), _) => {
                if let Some(source) = caller.limited_as {
                    self.lookups.record_failure(source);
                }
                Err(WRONG_TOKEN)
            }
            (SetupState::New | SetupState::Closed, _) => Err(CLOSED),
        }
    }

    /// Makes the first owner with the token, and closes set-up for good.
    ///
    /// # Errors
    /// As [`Setup::check_token`]; 422 for a field.
    pub async fn complete(
        &self,
        caller: &Client,
        token: &str,
        person: NewPerson,
    ) -> Result<MemberRecord> {
        // Before the password is hashed, which is slow.
        let token = self.check_token(caller, token).await?;
        let (mut owner, record) = self.owner(person).await?;
        owner.audit = audit_entry::Model {
            actor_kind: ActorKind::Member,
            actor_id: Some(owner.member.id.0),
            source: caller.source.clone(),
            ..owner.audit
        };
        match self.store.system().set_up_owner(token, owner).await? {
            SetupResult::Created => Ok(record),
            SetupResult::WrongToken => Err(WRONG_TOKEN),
            SetupResult::Closed => Err(CLOSED),
        }
    }

    /// Makes an owner of the first tenant, for an operator at the terminal. A person who is known by the
    /// address gets the new password, is signed out everywhere and loses its identities. Returns how many.
    ///
    /// # Errors
    /// 422 for a field.
    pub async fn create_owner(
        &self,
        data_dir: &Path,
        person: NewPerson,
    ) -> Result<(MemberRecord, usize)> {
        let (owner, record) = self.owner(person).await?;
        let (id, removed) = self.store.system().create_owner(owner, self.clock.now()).await?;
        self.cache.forget_principals();
        remove_token_file(data_dir);
        Ok((MemberRecord { id, ..record }, removed))
    }

    async fn owner(&self, person: NewPerson) -> Result<(NewOwner, MemberRecord)> {
        let person = check(person)?;
        let tenant = self.store.system().first_tenant().await?.ok_or(NO_TENANT)?;
        let password_hash = self.passwords.hash(person.password).await?;
        let now = self.clock.now();
        let user = user::Model {
            id: UserId::new(),
            email: person.email.to_string(),
            name: person.name,
            password_hash,
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
            is_from_setup: true,
        };
        let record = record(&user, &member, &tenant);
        let action = AuditAction {
            tenant_id: tenant.id,
            action: "member.create",
            subject: Subject { kind: "member", id: member.id.0 },
            detail: &json!({"email": user.email, "role": member.role}),
            at: now,
        };
        let audit = audit_entry::Model {
            actor_kind: ActorKind::Operator,
            actor_id: Some(PrincipalId::OPERATOR.0),
            ..action.by_system()
        };
        Ok((NewOwner { user, member, audit }, record))
    }
}

pub(super) fn record(
    user: &user::Model,
    member: &member::Model,
    tenant: &tenant::Model,
) -> MemberRecord {
    MemberRecord {
        id: member.id,
        tenant_id: tenant.id,
        tenant_name: tenant.name.clone(),
        email: user.email.clone(),
        name: user.name.clone(),
        role: member.role,
        created_at: member.created_at,
    }
}

pub(super) fn check(person: NewPerson) -> Result<CheckedPerson> {
    let email = EmailAddress::parse(&person.email)
        .map_err(|problem| ServiceError::invalid_field("email", &problem.to_string()))?;
    let local = email.as_str().split('@').next().unwrap_or_default().to_owned();
    let name = person.name.unwrap_or(local);
    check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
    check_password(&person.password, &email)
        .map_err(|problem| password_problem("password", problem))?;
    Ok(CheckedPerson { email, name, password: person.password })
}

/// `field`: of the password.
pub(super) fn password_problem(field: &str, problem: PasswordProblem) -> ServiceError {
    let (error, problem) = match problem {
        PasswordProblem::TooShort => (
            FieldError::with_limit(field, FieldErrorCode::TooSmall, MIN_PASSWORD_CHARS as u64),
            "must have at least 12 characters",
        ),
        PasswordProblem::TooLong => (
            FieldError::with_limit(field, FieldErrorCode::TooLarge, MAX_PASSWORD_BYTES as u64),
            "must have at most 256 bytes",
        ),
        PasswordProblem::Breached => (
            FieldError::new(field, FieldErrorCode::Invalid),
            "is one of those that attackers try first; choose another one",
        ),
        PasswordProblem::IsAddress => (
            FieldError::new(field, FieldErrorCode::Invalid),
            "is the address or a part of it; choose another one",
        ),
    };
    ServiceError::field(error, problem)
}

/// A token that is no longer valid is not a secret, so a file that remains is harmless.
fn remove_token_file(data_dir: &Path) {
    if let Err(error) = std::fs::remove_file(data_dir.join(TOKEN_FILE))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "failed to delete the file of the set-up token, which is invalid now");
    }
}
