//! Members, and the first owner of a server.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::identities::remove_all_identities;
use super::session_end::{PASSWORD_CHANGED, end_keys_of};
use crate::domain::access::credential::SecretHash;
use crate::domain::access::principal::Role;
use crate::domain::ids::{MemberId, SessionId, TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, member, tenant, user, user_session};
use crate::store::entities::operations::setting;
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;
use crate::store::writer::add_audit;

/// The hash of the set-up token; empty once set-up is closed.
const SETUP_TOKEN: &str = "setup_token";

/// Whether the first owner can be made over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupState {
    /// No token was ever made.
    New,
    /// The holder of the token with this hash can set it up.
    Open(SecretHash),
    /// For good.
    Closed,
}

/// The rows of an owner.
#[derive(Debug, Clone)]
pub struct NewOwner {
    pub user: user::Model,
    pub member: member::Model,
    pub audit: audit_entry::Model,
}

/// The result of [`SystemScope::set_up_owner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupResult {
    Created,
    WrongToken,
    Closed,
}

impl SystemScope {
    /// The tenant that the server was created with.
    pub async fn first_tenant(&self) -> Result<Option<tenant::Model>, StoreError> {
        let query = tenant::Entity::find().order_by_asc(tenant::Column::Id).limit(1);
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Whether the first owner can be made over the network.
    pub async fn setup_state(&self) -> Result<SetupState, StoreError> {
        Ok(setup_state(self.setting(SETUP_TOKEN).await?))
    }

    /// Opens set-up for a new token, unless it is closed or the tenant has an owner, in which case it
    /// closes it. An earlier token becomes invalid. Returns whether it is open.
    pub async fn open_setup(
        &self,
        tenant_id: TenantId,
        hash: SecretHash,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    if read_setup(transaction).await? == SetupState::Closed {
                        return Ok(false);
                    }
                    let has_owner = has_owner(transaction, tenant_id).await?;
                    let value = if has_owner { Vec::new() } else { hash.0.to_vec() };
                    write_setup(transaction, value).await?;
                    Ok(!has_owner)
                })
            })
            .await
    }

    /// Makes the first owner of a tenant with the set-up token, and closes set-up for good.
    pub async fn set_up_owner(
        &self,
        token: SecretHash,
        owner: NewOwner,
    ) -> Result<SetupResult, StoreError> {
        self.writer
            .change(move |transaction| {
                let owner = owner.clone();
                Box::pin(async move {
                    match read_setup(transaction).await? {
                        SetupState::Open(hash) if hash == token => {}
                        SetupState::Open(_) => return Ok(SetupResult::WrongToken),
                        SetupState::New | SetupState::Closed => return Ok(SetupResult::Closed),
                    }
                    write_setup(transaction, Vec::new()).await?;
                    // An owner that was made at the terminal meanwhile has closed it already.
                    if has_owner(transaction, owner.member.tenant_id).await? {
                        return Ok(SetupResult::Closed);
                    }
                    insert_owner(transaction, owner).await?;
                    Ok(SetupResult::Created)
                })
            })
            .await
    }

    /// Makes a person an owner, and closes set-up. A person who is known by the address gets the new
    /// password, is signed out everywhere, loses its identities, and becomes an owner. Returns the id of the
    /// member, and how many identities were removed.
    pub async fn create_owner(
        &self,
        owner: NewOwner,
        now: Timestamp,
    ) -> Result<(MemberId, usize), StoreError> {
        self.writer
            .change(move |transaction| {
                let owner = owner.clone();
                Box::pin(async move {
                    write_setup(transaction, Vec::new()).await?;
                    let known = user::Entity::find()
                        .filter(user::Column::Email.eq(owner.user.email.as_str()))
                        .all(transaction)
                        .await?
                        .pop();
                    let Some(known) = known else {
                        let id = owner.member.id;
                        insert_owner(transaction, owner).await?;
                        return Ok((id, 0));
                    };
                    let (hash, audit) = (&owner.user.password_hash, Some(&owner.audit));
                    let removed = replace_password(transaction, known.id, hash, audit, now).await?;
                    let id = promote(transaction, known.id, owner.member).await?;
                    let subject_id = Some(id.0);
                    write_audit(transaction, audit_entry::Model { subject_id, ..owner.audit })
                        .await?;
                    Ok((id, removed))
                })
            })
            .await
    }
}

fn setup_state(value: Option<Vec<u8>>) -> SetupState {
    match value.map(<[u8; 32]>::try_from) {
        None => SetupState::New,
        Some(Ok(hash)) => SetupState::Open(SecretHash(hash)),
        Some(Err(_)) => SetupState::Closed,
    }
}

async fn read_setup(transaction: &DatabaseTransaction) -> Result<SetupState, StoreError> {
    let row = setting::Entity::find_by_id(SETUP_TOKEN).all(transaction).await?.pop();
    Ok(setup_state(row.map(|row| row.value)))
}

async fn write_setup(transaction: &DatabaseTransaction, value: Vec<u8>) -> Result<(), StoreError> {
    let row = setting::Model { name: SETUP_TOKEN.into(), value };
    let replace =
        OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned();
    setting::Entity::insert(row.into_active_model())
        .on_conflict(replace)
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

async fn has_owner(
    connection: &impl ConnectionTrait,
    tenant_id: TenantId,
) -> Result<bool, StoreError> {
    let query = member::Entity::find()
        .filter(member::Column::TenantId.eq(tenant_id))
        .filter(member::Column::Role.eq(Role::Owner))
        .filter(member::Column::RemovedAt.is_null())
        .limit(1);
    Ok(!query.all(connection).await?.is_empty())
}

async fn insert_owner(
    transaction: &DatabaseTransaction,
    owner: NewOwner,
) -> Result<(), StoreError> {
    user::Entity::insert(owner.user.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    member::Entity::insert(owner.member.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    write_audit(transaction, owner.audit).await
}

/// Sets a password that the person did not prove, ends all sessions of the person, and the API keys that were
/// made in them, and removes its identities: another person may have been signed in or have linked one.
/// Returns how many identities it had. `audit`: the entry of
/// the change; `None` for a person without a tenant, who has no key.
pub(super) async fn replace_password(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    password_hash: &str,
    audit: Option<&audit_entry::Model>,
    now: Timestamp,
) -> Result<usize, StoreError> {
    user::Entity::update_many()
        .col_expr(user::Column::PasswordHash, password_hash.into())
        .filter(user::Column::Id.eq(user_id))
        .exec(transaction)
        .await?;
    let members: Vec<MemberId> = member::Entity::find()
        .select_only()
        .column(member::Column::Id)
        .filter(member::Column::UserId.eq(user_id))
        .into_tuple()
        .all(transaction)
        .await?;
    let open: Vec<SessionId> = user_session::Entity::find()
        .select_only()
        .column(user_session::Column::Id)
        .filter(user_session::Column::MemberId.is_in(members))
        .filter(user_session::Column::RevokedAt.is_null())
        .into_tuple()
        .all(transaction)
        .await?;
    if let Some(audit) = audit {
        for entry in end_keys_of(transaction, &open, audit, PASSWORD_CHANGED, now).await? {
            add_audit(entry)?;
        }
    }
    user_session::Entity::update_many()
        .col_expr(user_session::Column::RevokedAt, now.0.into())
        .filter(user_session::Column::Id.is_in(open))
        .exec(transaction)
        .await?;
    remove_all_identities(transaction, user_id, audit, now).await
}

/// Makes a person an owner of the tenant of `new`, as the member it is, or as `new`.
async fn promote(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    new: member::Model,
) -> Result<MemberId, StoreError> {
    let known = member::Entity::find()
        .filter(member::Column::TenantId.eq(new.tenant_id))
        .filter(member::Column::UserId.eq(user_id))
        .filter(member::Column::RemovedAt.is_null())
        .all(transaction)
        .await?
        .pop();
    let Some(known) = known else {
        let new = member::Model { user_id, ..new };
        let id = new.id;
        member::Entity::insert(new.into_active_model()).exec_without_returning(transaction).await?;
        return Ok(id);
    };
    let role: &'static str = Role::Owner.into();
    member::Entity::update_many()
        .col_expr(member::Column::Role, role.into())
        .col_expr(member::Column::IsFromSetup, true.into())
        .filter(member::Column::Id.eq(known.id))
        .exec(transaction)
        .await?;
    Ok(known.id)
}
