//! The hash chain over audit entries, as the writer makes it.

use muster_protocol::audit::{
    AuditHash, AuditLink, BREAK_ACTION, ChainVerifier, FindingKind, StoredEntry, VerifiedChain,
};
use muster_server::domain::access::audit::{AuditFilter, AuditPosition};
use muster_server::domain::access::records::AuditRecord;
use muster_server::domain::ids::TenantId;
use muster_server::store::StoreError;
use muster_server::store::entities::access::{audit_entry, audit_head, audit_link};
use muster_server::store::queries::AuditRange;
use muster_server::store::writer::AppendAudit;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use crate::fixture::{Fixture, audit, tenant_created};
use crate::on_both_databases;

on_both_databases!(
    the_entries_of_a_commit_are_one_link_of_each_tenant,
    a_change_that_was_refused_leaves_no_entry_and_no_gap,
    a_last_link_that_was_changed_is_recorded_and_the_log_goes_on,
    links_that_were_removed_while_the_server_runs_are_recorded,
    a_log_that_was_removed_as_a_whole_is_recorded,
    pages_are_in_the_order_of_the_commits_and_filters_match,
);

impl Fixture {
    async fn links(&self, tenant_id: TenantId) -> Vec<AuditLink> {
        self.store.tenant(tenant_id).audit_links(0, 1_000, 1_000).await.expect("read")
    }

    async fn entries(&self, tenant_id: TenantId) -> Vec<AuditRecord> {
        let tenant = self.store.tenant(tenant_id);
        tenant.audit_entries_of_links(0, 1_000, 1_000).await.expect("read")
    }

    async fn verified(&self, tenant_id: TenantId) -> VerifiedChain {
        let entries = self.entries(tenant_id).await;
        let mut verifier = ChainVerifier::new(tenant_id.0, 0, AuditHash::default(), None);
        for link in self.links(tenant_id).await {
            let of_link = entries.iter().filter(|entry| entry.link == link.number);
            let stored = of_link.map(|entry| StoredEntry {
                id: entry.id.0,
                link: entry.link,
                digest: entry.digest(tenant_id),
                is_break: entry.action == BREAK_ACTION,
            });
            verifier.check(&link, &stored.collect::<Vec<_>>());
        }
        verifier.finish(true)
    }

    async fn append(&self, tenant_id: TenantId) -> audit_entry::Model {
        let entry = audit(tenant_id);
        self.store.writer().commit(AppendAudit(entry.clone())).await.expect("append");
        entry
    }

    /// What a check of the log finds, in the order of the links.
    async fn finding_kinds(&self) -> Vec<FindingKind> {
        let findings = self.verified(self.tenant_id).await.findings;
        findings.into_iter().map(|finding| finding.kind).collect()
    }

    /// Deletes everything of a log, as a person with the database could.
    async fn remove_log(&self, tenant_id: TenantId) {
        let rows = self.rows().await;
        let of_entries = audit_entry::Column::TenantId.eq(tenant_id);
        audit_entry::Entity::delete_many().filter(of_entries).exec(rows).await.expect("delete");
        let of_links = audit_link::Column::TenantId.eq(tenant_id);
        audit_link::Entity::delete_many().filter(of_links).exec(rows).await.expect("delete");
        audit_head::Entity::delete_by_id(tenant_id).exec(rows).await.expect("delete");
    }

    /// The actions of the last link.
    async fn last_actions(&self) -> Vec<String> {
        let last = self.links(self.tenant_id).await.pop().expect("a link").number;
        let entries = self.entries(self.tenant_id).await;
        entries.into_iter().filter(|entry| entry.link == last).map(|entry| entry.action).collect()
    }
}

async fn the_entries_of_a_commit_are_one_link_of_each_tenant(fixture: Fixture) {
    let (one, other) = (TenantId::new(), TenantId::new());
    let entries = vec![tenant_created(one), tenant_created(other), audit(one), audit(one)];
    fixture.store.system().append_audit(entries).await.expect("append");
    let links = fixture.links(one).await;
    assert_eq!(links.iter().map(|link| link.entries.len()).collect::<Vec<_>>(), [3]);
    assert_eq!(links[0].previous_hash, AuditHash::default());
    assert_eq!(fixture.links(other).await.len(), 1);
    fixture.append(one).await;
    let links = fixture.links(one).await;
    assert_eq!(links[1].previous_hash, links[0].hash);
    let verified = fixture.verified(one).await;
    assert_eq!((verified.links, verified.entries, verified.finding_count), (2, 4, 0));
    let head = fixture.store.tenant(one).audit_head().await.expect("read").expect("a head");
    assert_eq!((head.number, head.hash), (2, links[1].hash));
}

async fn a_change_that_was_refused_leaves_no_entry_and_no_gap(fixture: Fixture) {
    let tenant = fixture.tenant_id;
    let before = fixture.links(tenant).await.len();
    let writer = fixture.store.writer();
    let refused =
        writer.change::<(), _>(|_| Box::pin(async { Err(StoreError::Refused("for a test")) }));
    let taken = fixture.append(tenant).await;
    // The same id again: the transaction fails, and with it the whole link.
    let (refused, failed, valid) = tokio::join!(
        refused,
        writer.commit(AppendAudit(taken)),
        writer.commit(AppendAudit(audit(tenant)))
    );
    assert!(refused.is_err() && failed.is_err());
    valid.expect("tried again alone");
    let links = fixture.links(tenant).await;
    assert_eq!(links.len(), before + 2);
    assert_eq!(fixture.verified(tenant).await.findings, []);
}

async fn a_last_link_that_was_changed_is_recorded_and_the_log_goes_on(fixture: Fixture) {
    let tenant = fixture.tenant_id;
    fixture.append(tenant).await;
    // As a person who has the database and no key: the chain is rewritten, and its hash put in place.
    audit_head::Entity::update_many()
        .col_expr(audit_head::Column::Hash, Expr::value(vec![7_u8; 32]))
        .filter(audit_head::Column::TenantId.eq(tenant))
        .exec(fixture.rows().await)
        .await
        .expect("change");
    fixture.append(tenant).await;
    assert_eq!(fixture.last_actions().await, ["test", "audit.break"]);
    fixture.append(tenant).await;
    assert_eq!(fixture.last_actions().await, ["test"], "once");
    // The new head is signed, and what it covers still is not proven.
    assert_eq!(
        fixture.finding_kinds().await,
        [FindingKind::LinkChanged, FindingKind::BreakRecorded]
    );
}

async fn a_log_that_was_removed_as_a_whole_is_recorded(fixture: Fixture) {
    let tenant = fixture.tenant_id;
    fixture.append(tenant).await;
    fixture.remove_log(tenant).await;
    // Of a log that the writer has not seen since its start.
    let unseen = TenantId::new();
    fixture.append(unseen).await;
    assert_eq!(fixture.verified(unseen).await.finding_count, 1);
    // The creation of another tenant, which the operator's log records, is no start of this one.
    let unseen = TenantId::new();
    let of_other = audit_entry::Model {
        action: "tenant.create".into(),
        subject_id: Some(tenant.0),
        ..audit(unseen)
    };
    fixture.store.system().append_audit(vec![of_other]).await.expect("append");
    assert_eq!(fixture.verified(unseen).await.finding_count, 1);
    fixture.append(tenant).await;
    assert_eq!(fixture.last_actions().await, ["test", "audit.break"]);
    assert_eq!(fixture.finding_kinds().await, [FindingKind::BreakRecorded]);
}

async fn links_that_were_removed_while_the_server_runs_are_recorded(fixture: Fixture) {
    let tenant = fixture.tenant_id;
    fixture.append(tenant).await;
    let head = audit_head::Entity::find_by_id(tenant).one(fixture.rows().await).await;
    let old = head.expect("read").expect("a head");
    fixture.append(tenant).await;
    let rows = fixture.rows().await;
    audit_entry::Entity::delete_many()
        .filter(audit_entry::Column::TenantId.eq(tenant))
        .filter(audit_entry::Column::Link.gt(old.number))
        .exec(rows)
        .await
        .expect("delete");
    audit_link::Entity::delete_many()
        .filter(audit_link::Column::TenantId.eq(tenant))
        .filter(audit_link::Column::Number.gt(old.number))
        .exec(rows)
        .await
        .expect("delete");
    // The old head is signed: only who has seen the newer one notices.
    audit_head::Entity::update_many()
        .col_expr(audit_head::Column::Number, Expr::value(old.number))
        .col_expr(audit_head::Column::Hash, Expr::value(old.hash.clone()))
        .col_expr(audit_head::Column::Signature, Expr::value(old.signature.clone()))
        .filter(audit_head::Column::TenantId.eq(tenant))
        .exec(rows)
        .await
        .expect("change");
    fixture.append(tenant).await;
    assert_eq!(fixture.last_actions().await, ["test", "audit.break"]);
    assert_eq!(fixture.finding_kinds().await, [FindingKind::BreakRecorded]);
}

async fn pages_are_in_the_order_of_the_commits_and_filters_match(fixture: Fixture) {
    let tenant_id = TenantId::new();
    // Made first and committed last.
    let early = audit_entry::Model { action: "agent.update".into(), ..audit(tenant_id) };
    let created = tenant_created(tenant_id);
    fixture.store.writer().commit(AppendAudit(created.clone())).await.expect("append");
    let mut ids = vec![created.id];
    for _ in 0..3 {
        ids.push(fixture.append(tenant_id).await.id);
    }
    fixture.store.writer().commit(AppendAudit(early.clone())).await.expect("append");
    ids.push(early.id);
    let tenant = fixture.store.tenant(tenant_id);
    let all = AuditFilter::default();
    let mut read = Vec::new();
    let mut after = AuditPosition::end_of(0);
    loop {
        let page = tenant.audit_entries(&all, AuditRange::After(after), 2).await.expect("read");
        read.extend(page.entries.iter().map(|entry| entry.id));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(read, ids);
    let mut backwards = Vec::new();
    let mut before = None;
    loop {
        let page = tenant.audit_entries(&all, AuditRange::Before(before), 2).await.expect("read");
        backwards.extend(page.entries.iter().map(|entry| entry.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    backwards.reverse();
    assert_eq!(backwards, ids);
    let filter = AuditFilter { action: Some("agent.update".into()), ..AuditFilter::default() };
    for range in [AuditRange::Before(None), AuditRange::After(AuditPosition::end_of(0))] {
        let page = tenant.audit_entries(&filter, range, 2).await.expect("read");
        assert_eq!(page.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [early.id]);
        assert_eq!(page.next, None);
    }
    let filter = AuditFilter { before: Some(early.at), ..AuditFilter::default() };
    let page = tenant.audit_entries(&filter, AuditRange::Before(None), 2).await.expect("read");
    assert!(page.entries.is_empty());
}
