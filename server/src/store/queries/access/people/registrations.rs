//! People who want an account, until they verify the address.
//!
//! What is stored and how long it takes is the same whether the address has an account or not: only the
//! mail differs.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _,
};

use crate::domain::access::people::verification_code::{CODE_MS, MAX_CODE_TRIES};
use crate::domain::ids::RegistrationId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, mail, member, registration, tenant, user};
use crate::store::queries::SystemScope;
use crate::store::queries::access::mails::queue_mail;
use crate::store::writer::add_audit;

/// How long the row of a registration stays: 1 h.
const REGISTRATION_MS: u64 = 3_600_000;
/// Registrations of one address in that time. Further ones send no mail.
const MAX_REGISTRATIONS_OF_ADDRESS: u64 = 5;
/// Registrations in that time.
const MAX_REGISTRATIONS: u64 = 10_000;
/// Codes that are sent for one registration.
const MAX_CODES_SENT: i32 = 5;

/// The mails of which one is sent.
#[derive(Debug, Clone)]
pub struct Letters {
    /// With the code.
    pub code: mail::Model,
    /// For an address that has an account.
    pub in_use: mail::Model,
    /// Stored if no mail may be sent, so that each request costs the same.
    pub decoy: mail::Model,
}

/// Whether a registration was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationResult {
    Stored,
    TooMany,
}

/// The rows of a person who verified the address.
#[derive(Debug, Clone)]
pub struct NewAccount {
    pub tenant: tenant::Model,
    pub user: user::Model,
    pub member: member::Model,
    pub audits: Vec<audit_entry::Model>,
}

/// The result of [`SystemScope::verify_registration`].
#[derive(Debug, Clone)]
pub enum VerificationResult {
    Created(Box<NewAccount>),
    /// The code or the registration is wrong, used or expired.
    Invalid,
}

impl SystemScope {
    /// Stores a registration with one of the mails.
    pub async fn register(
        &self,
        row: registration::Model,
        letters: Letters,
    ) -> Result<RegistrationResult, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, letters) = (row.clone(), letters.clone());
                Box::pin(async move {
                    let oldest = row.created_at.minus_ms(REGISTRATION_MS);
                    registration::Entity::delete_many()
                        .filter(registration::Column::CreatedAt.lt(oldest))
                        .exec(transaction)
                        .await?;
                    let all = registration::Entity::find().count(transaction).await?;
                    if all >= MAX_REGISTRATIONS {
                        return Ok(RegistrationResult::TooMany);
                    }
                    let of_address = registration::Entity::find()
                        .filter(registration::Column::Email.eq(row.email.as_str()))
                        .count(transaction)
                        .await?;
                    let is_known = has_account(transaction, &row.email).await?;
                    let is_beyond = of_address >= MAX_REGISTRATIONS_OF_ADDRESS;
                    let mail = match (is_beyond, is_known) {
                        (true, _) => letters.decoy,
                        (false, true) => letters.in_use,
                        (false, false) => letters.code,
                    };
                    let row = registration::Model { is_known: is_known || is_beyond, ..row };
                    registration::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    queue_mail(transaction, mail).await?;
                    Ok(RegistrationResult::Stored)
                })
            })
            .await
    }

    /// A registration.
    pub async fn registration(
        &self,
        id: RegistrationId,
    ) -> Result<Option<registration::Model>, StoreError> {
        Ok(registration::Entity::find_by_id(id).all(&self.reader).await?.pop())
    }

    /// Replaces the code of a registration and sends it, or sends the decoy. Wrong tries still count.
    pub async fn resend_code(
        &self,
        id: RegistrationId,
        code_hash: Vec<u8>,
        (mail, decoy): (mail::Model, mail::Model),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (code_hash, mail, decoy) = (code_hash.clone(), mail.clone(), decoy.clone());
                Box::pin(async move {
                    let updated = registration::Entity::update_many()
                        .col_expr(registration::Column::CodeHash, code_hash.into())
                        .col_expr(registration::Column::ExpiresAt, now.plus_ms(CODE_MS).0.into())
                        .col_expr(
                            registration::Column::CodesSent,
                            sea_orm::sea_query::Expr::cust("codes_sent + 1"),
                        )
                        .filter(registration::Column::Id.eq(id))
                        .filter(registration::Column::IsKnown.eq(false))
                        .filter(registration::Column::Tries.lt(MAX_CODE_TRIES))
                        .filter(registration::Column::CodesSent.lt(MAX_CODES_SENT))
                        .filter(registration::Column::CreatedAt.gt(now.minus_ms(REGISTRATION_MS)))
                        .exec(transaction)
                        .await?;
                    let is_sent = updated.rows_affected > 0;
                    queue_mail(transaction, if is_sent { mail } else { decoy }).await
                })
            })
            .await
    }

    /// Counts a try of a code. The right one makes the account and its tenant, and ends every registration
    /// of the address.
    pub async fn verify_registration(
        &self,
        id: RegistrationId,
        presented: Option<[u8; 32]>,
        now: Timestamp,
        account: impl Fn(&registration::Model) -> NewAccount + Clone + Send + Sync + 'static,
    ) -> Result<VerificationResult, StoreError> {
        self.writer
            .change(move |transaction| {
                let account = account.clone();
                Box::pin(async move {
                    let found = registration::Entity::find_by_id(id).all(transaction).await?.pop();
                    let Some(row) = found else { return Ok(VerificationResult::Invalid) };
                    registration::Entity::update_many()
                        .col_expr(registration::Column::Tries, row.tries.saturating_add(1).into())
                        .filter(registration::Column::Id.eq(id))
                        .exec(transaction)
                        .await?;
                    let is_right = !row.is_known && row.code().is(presented, now);
                    if !is_right || has_account(transaction, &row.email).await? {
                        return Ok(VerificationResult::Invalid);
                    }
                    let new = account(&row);
                    registration::Entity::delete_many()
                        .filter(registration::Column::Email.eq(row.email.as_str()))
                        .exec(transaction)
                        .await?;
                    insert(transaction, new.clone()).await?;
                    Ok(VerificationResult::Created(Box::new(new)))
                })
            })
            .await
    }
}

/// True if a person has the address.
pub(super) async fn has_account(
    connection: &impl ConnectionTrait,
    email: &str,
) -> Result<bool, StoreError> {
    let query = user::Entity::find().filter(user::Column::Email.eq(email));
    Ok(query.count(connection).await? > 0)
}

async fn insert(transaction: &DatabaseTransaction, new: NewAccount) -> Result<(), StoreError> {
    tenant::Entity::insert(new.tenant.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    user::Entity::insert(new.user.into_active_model()).exec_without_returning(transaction).await?;
    member::Entity::insert(new.member.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    for audit in new.audits {
        add_audit(audit)?;
    }
    Ok(())
}
