//! Releases. They belong to the server, not to a tenant.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{PrincipalId, ReleaseId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::releases::{release, release_key_change};
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;

/// Who publishes a release, and when.
#[derive(Debug, Clone, Copy)]
pub struct Publication {
    pub at: Timestamp,
    pub by: PrincipalId,
    /// The last published release at the time when the signing key was checked.
    pub after: Option<ReleaseId>,
}

impl SystemScope {
    /// A release by its version.
    pub async fn release(&self, version: &str) -> Result<Option<release::Model>, StoreError> {
        let query = release::Entity::find().filter(release::Column::Version.eq(version));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// One page of releases, newest first, with one row more than the limit if there is one.
    /// `is_published`: only those that were published.
    pub async fn releases(
        &self,
        page: PageRequest,
        is_published: bool,
    ) -> Result<Vec<release::Model>, StoreError> {
        let mut query =
            release::Entity::find().order_by_desc(release::Column::Id).limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(release::Column::Id.lt(before));
        }
        if is_published {
            query = query.filter(release::Column::PublishedAt.is_not_null());
        }
        Ok(query.all(&self.reader).await?)
    }

    /// Published versions with their descriptors.
    pub async fn open_releases(&self) -> Result<Vec<release::Model>, StoreError> {
        let query = release::Entity::find()
            .filter(release::Column::PublishedAt.is_not_null())
            .filter(release::Column::WithdrawnAt.is_null());
        Ok(query.all(&self.reader).await?)
    }

    /// The last published release, withdrawn or not.
    pub async fn last_published_release(&self) -> Result<Option<release::Model>, StoreError> {
        let query = release::Entity::find()
            .filter(release::Column::PublishedAt.is_not_null())
            .order_by_desc(release::Column::PublishedAt)
            .order_by_desc(release::Column::Id)
            .limit(1);
        Ok(query.all(&self.reader).await?.pop())
    }

    /// How many releases were neither published nor withdrawn.
    pub async fn release_drafts(&self) -> Result<usize, StoreError> {
        let query = release::Entity::find()
            .select_only()
            .column(release::Column::Id)
            .filter(release::Column::PublishedAt.is_null())
            .filter(release::Column::WithdrawnAt.is_null());
        let ids: Vec<ReleaseId> = query.into_tuple().all(&self.reader).await?;
        Ok(ids.len())
    }

    /// Stores a draft. It replaces another draft of that version.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the version was published before.
    pub async fn draft_release(
        &self,
        row: release::Model,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    if let Some(known) = find(transaction, &row.version).await? {
                        if known.published_at.is_some() {
                            return Err(StoreError::Refused("the release was published before"));
                        }
                        release::Entity::delete_by_id(known.id).exec(transaction).await?;
                    }
                    release::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// Publishes a release. `None` if it was changed since it was checked, or another release was
    /// published since: check again then.
    pub async fn publish_release(
        &self,
        judged: release::Model,
        publication: Publication,
        audit: audit_entry::Model,
    ) -> Result<Option<release::Model>, StoreError> {
        self.writer
            .change(move |transaction| {
                let (judged, audit) = (judged.clone(), audit.clone());
                Box::pin(async move {
                    let known = find(transaction, &judged.version).await?;
                    let last = release::Entity::find()
                        .filter(release::Column::PublishedAt.is_not_null())
                        .order_by_desc(release::Column::PublishedAt)
                        .order_by_desc(release::Column::Id)
                        .one(transaction)
                        .await?;
                    let is_as_judged = last.map(|row| row.id) == publication.after;
                    let Some(row) = known.filter(|row| is_as_judged && *row == judged) else {
                        return Ok(None);
                    };
                    let mut row = row.into_active_model();
                    row.published_at = Set(Some(publication.at));
                    row.published_by = Set(Some(publication.by));
                    row.withdrawn_at = Set(None);
                    let row = row.update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Withdraws a release; `None` if it does not exist.
    pub async fn withdraw_release(
        &self,
        version: String,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<release::Model>, StoreError> {
        self.writer
            .change(move |transaction| {
                let (version, audit) = (version.clone(), audit.clone());
                Box::pin(async move {
                    let Some(row) = find(transaction, &version).await? else { return Ok(None) };
                    if row.withdrawn_at.is_some() {
                        return Ok(Some(row));
                    }
                    let mut row = row.into_active_model();
                    row.withdrawn_at = Set(Some(now));
                    let row = row.update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Every key change, oldest first.
    pub async fn release_key_changes(&self) -> Result<Vec<release_key_change::Model>, StoreError> {
        let query = release_key_change::Entity::find().order_by_asc(release_key_change::Column::Id);
        Ok(query.all(&self.reader).await?)
    }

    /// Stores a key change.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if one of the two keys already has a change in that role, or there
    /// are `most`.
    pub async fn add_release_key_change(
        &self,
        row: release_key_change::Model,
        most: usize,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let known = release_key_change::Entity::find().all(transaction).await?;
                    let is_double = known
                        .iter()
                        .any(|other| other.old_key == row.old_key || other.new_key == row.new_key);
                    if is_double || known.len() >= most {
                        return Err(StoreError::Refused("one of the keys already has a change"));
                    }
                    release_key_change::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }
}

async fn find(
    transaction: &DatabaseTransaction,
    version: &str,
) -> Result<Option<release::Model>, StoreError> {
    let query = release::Entity::find().filter(release::Column::Version.eq(version));
    Ok(query.one(transaction).await?)
}
