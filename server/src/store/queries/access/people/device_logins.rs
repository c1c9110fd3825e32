//! Sign-ins of programs that a person decides about elsewhere: each makes one session, once.

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::access::credential::SecretHash;
use crate::domain::ids::{DeviceLoginId, SessionId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, device_login};
use crate::store::queries::SystemScope;
use crate::store::requester::{is_live_session, write_audit};

/// Sign-ins of programs that wait at once, of the whole server.
const MAX_DEVICE_LOGINS: u64 = 1_000;

impl SystemScope {
    /// Stores a sign-in, and forgets those that have expired. If too many wait, the oldest of the source with
    /// the most makes room for a source with fewer; false if there is none.
    pub async fn open_device_login(&self, row: device_login::Model) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move {
                    device_login::Entity::delete_many()
                        .filter(device_login::Column::ExpiresAt.lte(row.created_at))
                        .exec(transaction)
                        .await?;
                    let count = device_login::Entity::find().count(transaction).await?;
                    if count >= MAX_DEVICE_LOGINS && !make_room(transaction, &row.source).await? {
                        return Ok(false);
                    }
                    device_login::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(true)
                })
            })
            .await
    }

    /// The sign-in of a program's secret.
    pub async fn device_login(
        &self,
        device: SecretHash,
    ) -> Result<Option<device_login::Model>, StoreError> {
        let query = device_login::Entity::find()
            .filter(device_login::Column::DeviceHash.eq(device.0.to_vec()));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// The sign-in of a code, if it is not decided.
    pub async fn undecided_device_login(
        &self,
        user: SecretHash,
    ) -> Result<Option<device_login::Model>, StoreError> {
        let query = device_login::Entity::find()
            .filter(device_login::Column::UserHash.eq(user.0.to_vec()))
            .filter(device_login::Column::DecidedAt.is_null());
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Approves a sign-in for a session, or refuses it; false if it has expired or was decided about.
    pub async fn decide_device_login(
        &self,
        id: DeviceLoginId,
        approved_by: Option<SessionId>,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let decided = device_login::Entity::update_many()
                        .col_expr(device_login::Column::DecidedAt, now.0.into())
                        .col_expr(
                            device_login::Column::ApprovedBy,
                            approved_by.map(|id| id.0).into(),
                        )
                        .filter(device_login::Column::Id.eq(id))
                        .filter(device_login::Column::DecidedAt.is_null())
                        .filter(device_login::Column::ExpiresAt.gt(now))
                        .exec(transaction)
                        .await?;
                    if decided.rows_affected == 0 {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

/// Uses an approved sign-in for the session that it makes; false if it was used, has expired, or the
/// session that approved it has ended.
pub(super) async fn use_device_login(
    transaction: &DatabaseTransaction,
    id: DeviceLoginId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = device_login::Entity::find_by_id(id).all(transaction).await?.pop();
    let Some(approved_by) = row.and_then(|row| row.approved_by) else { return Ok(false) };
    if !is_live_session(transaction, approved_by).await? {
        return Ok(false);
    }
    mark_used(transaction, id, now).await
}

async fn mark_used(
    connection: &impl ConnectionTrait,
    id: DeviceLoginId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let used = device_login::Entity::update_many()
        .col_expr(device_login::Column::UsedAt, now.0.into())
        .filter(device_login::Column::Id.eq(id))
        .filter(device_login::Column::UsedAt.is_null())
        .filter(device_login::Column::ExpiresAt.gt(now))
        .exec(connection)
        .await?;
    Ok(used.rows_affected == 1)
}

/// Forgets the oldest undecided sign-in of the source with the most, unless this one would then have as many.
async fn make_room(
    transaction: &DatabaseTransaction,
    source: &Option<String>,
) -> Result<bool, StoreError> {
    let waiting: Vec<(Option<String>, DeviceLoginId)> = device_login::Entity::find()
        .select_only()
        .columns([device_login::Column::Source, device_login::Column::Id])
        .filter(device_login::Column::DecidedAt.is_null())
        .order_by_asc(device_login::Column::Id)
        .limit(MAX_DEVICE_LOGINS)
        .into_tuple()
        .all(transaction)
        .await?;
    let mut sources: BTreeMap<&Option<String>, (usize, DeviceLoginId)> = BTreeMap::new();
    for (source, id) in &waiting {
        sources.entry(source).or_insert((0, *id)).0 += 1;
    }
    let own = sources.get(source).map_or(0, |(count, _)| *count);
    match sources.values().max_by_key(|(count, _)| *count) {
        Some((most, oldest)) if *most > own + 1 => {
            device_login::Entity::delete_by_id(*oldest).exec(transaction).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
