//! Releases: of the whole server, since hosts of every tenant are given them.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{ApiKeyId, ReleaseId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::releases::{release, release_key_change};
use crate::store::queries::SystemScope;
use crate::store::queries::access::agent_keys::write_audit;

/// Who publishes a release, and when.
#[derive(Debug, Clone, Copy)]
pub struct Publication {
    pub at: Timestamp,
    pub by: ApiKeyId,
    /// The release that was published last, as it was when the key was judged.
    pub after: Option<ReleaseId>,
}

impl SystemScope {
    /// A release by its version.
    pub async fn release(&self, version: &str) -> Result<Option<release::Model>, StoreError> {
        let query = release::Entity::find().filter(release::Column::Version.eq(version));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// One page of releases, newest first, with one row more than the limit if there is one.
    pub async fn releases(&self, page: PageRequest) -> Result<Vec<release::Model>, StoreError> {
        let mut query =
            release::Entity::find().order_by_desc(release::Column::Id).limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(release::Column::Id.lt(before));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// Versions that hosts may have, with their manifests.
    pub async fn open_releases(&self) -> Result<Vec<release::Model>, StoreError> {
        let query = release::Entity::find()
            .filter(release::Column::PublishedAt.is_not_null())
            .filter(release::Column::WithdrawnAt.is_null());
        Ok(query.all(&self.reader).await?)
    }

    /// The release that was published last, withdrawn or not.
    pub async fn last_published_release(&self) -> Result<Option<release::Model>, StoreError> {
        let query = release::Entity::find()
            .filter(release::Column::PublishedAt.is_not_null())
            .order_by_desc(release::Column::PublishedAt)
            .order_by_desc(release::Column::Id)
            .limit(1);
        Ok(query.all(&self.reader).await?.pop())
    }

    /// How many releases were never published nor withdrawn.
    pub async fn release_drafts(&self) -> Result<usize, StoreError> {
        let query = release::Entity::find()
            .select_only()
            .column(release::Column::Id)
            .filter(release::Column::PublishedAt.is_null())
            .filter(release::Column::WithdrawnAt.is_null());
        let ids: Vec<ReleaseId> = query.into_tuple().all(&self.reader).await?;
        Ok(ids.len())
    }

    /// Stores a draft, in the place of another draft of that version.
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

    /// Lets hosts have a release. `None` if it has changed since it was judged, or another one was
    /// published meanwhile: judge anew then.
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

    /// Lets hosts have a release no longer; `None` if there is none.
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

    /// Every change of the key, oldest first.
    pub async fn release_key_changes(&self) -> Result<Vec<release_key_change::Model>, StoreError> {
        let query = release_key_change::Entity::find().order_by_asc(release_key_change::Column::Id);
        Ok(query.all(&self.reader).await?)
    }

    /// Stores a change of the key.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if one of the two keys has a change of its kind already, or there are
    /// `most`.
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
                        return Err(StoreError::Refused("the key has changed otherwise"));
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
