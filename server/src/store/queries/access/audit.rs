//! The audit log of a tenant: pages and filters, in the order of the commits.

use sea_orm::sea_query::{Expr, ExprTrait as _, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Select,
};
use uuid::Uuid;

use crate::domain::access::audit::{AuditFilter, AuditPosition};
use crate::domain::access::records::AuditRecord;
use crate::domain::ids::{AuditId, SessionId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

/// Most entries that one page looks at. A page of a filter that matches few of them is shorter.
pub const MAX_SCANNED: u64 = 20_000;

/// In which order, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditRange {
    /// Newest first, before this entry.
    Before(Option<AuditPosition>),
    /// Oldest first, behind this entry.
    After(AuditPosition),
}

/// Some entries of a log.
#[derive(Debug, Clone)]
pub struct AuditPage {
    pub entries: Vec<AuditRecord>,
    /// The last position that was looked at; `None` at the end of the log.
    pub next: Option<AuditPosition>,
}

/// A row, with texts as they are: also what another person wrote there can be read.
type AuditRow = (
    Uuid,
    i64,
    i64,
    String,
    Option<Uuid>,
    Option<Uuid>,
    String,
    String,
    Option<Uuid>,
    String,
    Option<String>,
);

impl SystemScope {
    /// Stores entries about what changed no other row.
    pub async fn append_audit(&self, audits: Vec<audit_entry::Model>) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let audits = audits.clone();
                Box::pin(async move {
                    for audit in audits {
                        write_audit(transaction, audit).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

impl TenantScope {
    /// One page of entries that match, at most `limit`. Looks at a bounded number of entries.
    pub async fn audit_entries(
        &self,
        filter: &AuditFilter,
        range: AuditRange,
        limit: u64,
    ) -> Result<AuditPage, StoreError> {
        let boundary = match filter.is_empty() {
            true => None,
            false => self.audit_boundary(range).await?,
        };
        let mut query = self.in_range(range).filter(matches(filter)).limit(limit + 1);
        if let Some(boundary) = boundary {
            query = query.filter(match range {
                AuditRange::Before(_) => pair().gte(value(boundary)),
                AuditRange::After(_) => pair().lte(value(boundary)),
            });
        }
        let rows: Vec<AuditRow> = columns(query).into_tuple().all(&self.reader).await?;
        let mut entries: Vec<AuditRecord> = rows.into_iter().map(record).collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = match entries.len() > limit {
            true => {
                entries.truncate(limit);
                entries.last().map(AuditRecord::position)
            }
            false => boundary,
        };
        Ok(AuditPage { entries, next })
    }

    /// The last entry that a page may look at; `None` if the log ends before.
    async fn audit_boundary(&self, range: AuditRange) -> Result<Option<AuditPosition>, StoreError> {
        let found: Vec<(i64, Uuid)> = self
            .in_range(range)
            .select_only()
            .column(audit_entry::Column::Link)
            .column(audit_entry::Column::Id)
            .offset(MAX_SCANNED - 1)
            .limit(1)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let position = |(link, id): (i64, Uuid)| AuditPosition { link: link.cast_unsigned(), id };
        Ok(found.into_iter().next().map(position))
    }

    fn in_range(&self, range: AuditRange) -> Select<audit_entry::Entity> {
        let query =
            audit_entry::Entity::find().filter(audit_entry::Column::TenantId.eq(self.tenant_id));
        match range {
            AuditRange::Before(before) => {
                let query = query
                    .order_by_desc(audit_entry::Column::Link)
                    .order_by_desc(audit_entry::Column::Id);
                match before {
                    Some(before) => query.filter(pair().lt(value(before))),
                    None => query,
                }
            }
            AuditRange::After(after) => query
                .filter(pair().gt(value(after)))
                .order_by_asc(audit_entry::Column::Link)
                .order_by_asc(audit_entry::Column::Id),
        }
    }

    /// Every entry of some links, at most `limit`, in order.
    pub async fn audit_entries_of_links(
        &self,
        first: u64,
        last: u64,
        limit: u64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let query = audit_entry::Entity::find()
            .filter(audit_entry::Column::TenantId.eq(self.tenant_id))
            .filter(audit_entry::Column::Link.gte(first.cast_signed()))
            .filter(audit_entry::Column::Link.lte(last.cast_signed()))
            .order_by_asc(audit_entry::Column::Link)
            .order_by_asc(audit_entry::Column::Id)
            .limit(limit);
        let rows: Vec<AuditRow> = columns(query).into_tuple().all(&self.reader).await?;
        Ok(rows.into_iter().map(record).collect())
    }
}

/// The pair by which entries are ordered, compared as a whole: both databases look it up in the index.
fn pair() -> SimpleExpr {
    let column = |column: audit_entry::Column| Expr::col((audit_entry::Entity, column));
    Expr::tuple([column(audit_entry::Column::Link), column(audit_entry::Column::Id)])
}

fn value(position: AuditPosition) -> SimpleExpr {
    let (link, id) = (position.link.cast_signed(), AuditId(position.id));
    Expr::tuple([Expr::val(link), Expr::val(id)])
}

fn matches(filter: &AuditFilter) -> Condition {
    let actor_kind = filter.actor_kind.map(<&'static str>::from);
    Condition::all()
        .add_option(actor_kind.map(|kind| audit_entry::Column::ActorKind.eq(kind)))
        .add_option(filter.actor_id.map(|id| audit_entry::Column::ActorId.eq(id)))
        .add_option(
            filter.action.as_ref().map(|text| audit_entry::Column::Action.eq(text.as_str())),
        )
        .add_option(
            filter
                .subject_kind
                .as_ref()
                .map(|text| audit_entry::Column::SubjectKind.eq(text.as_str())),
        )
        .add_option(filter.subject_id.map(about))
        .add_option(filter.after.map(|at| audit_entry::Column::At.gte(at)))
        .add_option(filter.before.map(|at| audit_entry::Column::At.lt(at)))
}

/// Entries about something, and those about work on an agent with this id: the work is their subject.
fn about(id: Uuid) -> Condition {
    let on_agent = format!("%\"agent_id\":\"{id}\"%");
    Condition::any()
        .add(audit_entry::Column::SubjectId.eq(id))
        .add(audit_entry::Column::Detail.like(on_agent))
}

fn columns(query: Select<audit_entry::Entity>) -> Select<audit_entry::Entity> {
    query.select_only().columns([
        audit_entry::Column::Id,
        audit_entry::Column::Link,
        audit_entry::Column::At,
        audit_entry::Column::ActorKind,
        audit_entry::Column::ActorId,
        audit_entry::Column::SessionId,
        audit_entry::Column::Action,
        audit_entry::Column::SubjectKind,
        audit_entry::Column::SubjectId,
        audit_entry::Column::Detail,
        audit_entry::Column::Source,
    ])
}

fn record(row: AuditRow) -> AuditRecord {
    let (id, link, at, actor_kind, actor_id, session_id, action, kind, subject_id, detail, source) =
        row;
    AuditRecord {
        id: AuditId(id),
        link: link.cast_unsigned(),
        at: Timestamp(at),
        actor_kind,
        actor_id,
        actor_name: None,
        session_id: session_id.map(SessionId),
        action,
        subject_kind: kind,
        subject_id,
        subject_name: None,
        detail,
        source,
    }
}
