//! Uploaded files: of one tenant, bounded, and deleted when they are not used.

use muster_server::domain::ids::{FileId, PrincipalId, TenantId};
use muster_server::domain::library::uploaded_file::UploadedFileRecord;
use muster_server::domain::page::PageRequest;
use muster_server::store::StoreError;
use muster_server::store::queries::{FILES_FULL, FileLimits, TOO_MANY_FILES};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_file_is_of_its_tenant_and_known_by_its_hash_once_it_is_complete,
    files_are_bounded_by_number_and_size,
    a_file_that_is_not_used_is_deleted_and_one_that_work_needs_stays,
);

const LIMITS: FileLimits = FileLimits { count: 2, bytes: 10 };

fn row(tenant_id: TenantId, sha256: &str, size_bytes: i64) -> UploadedFileRecord {
    UploadedFileRecord {
        id: FileId::new(),
        tenant_id,
        name: "app.conf".into(),
        sha256: sha256.repeat(64),
        size_bytes,
        completed_at: None,
        expires_at: NOW.plus_ms(100),
        created_by: PrincipalId(Uuid::nil()),
        created_at: NOW,
    }
}

async fn a_file_is_of_its_tenant_and_known_by_its_hash_once_it_is_complete(fixture: Fixture) {
    let (tenant_id, other) = (fixture.tenant_id, TenantId::new());
    let tenant = fixture.store.tenant(tenant_id);
    let first = row(tenant_id, "a", 3);
    let (stored, is_new) = tenant.create_file(first.clone(), LIMITS).await.expect("stored");
    assert_eq!((stored, is_new), (first.clone(), true));
    let (known, is_new) = tenant.create_file(row(tenant_id, "a", 3), LIMITS).await.expect("known");
    assert_eq!((known.id, is_new), (first.id, false));
    assert_eq!(tenant.file_by_sha256(&first.sha256).await.expect("read"), None);
    assert_eq!(tenant.keep_file(&first.sha256, NOW).await.expect("read"), None);
    assert!(tenant.complete_file(first.id, NOW, audit(tenant_id)).await.expect("completed"));
    let found = tenant.file_by_sha256(&first.sha256).await.expect("read").expect("complete");
    assert_eq!((found.id, found.completed_at), (first.id, Some(NOW)));

    let foreign = fixture.store.tenant(other);
    assert_eq!(foreign.file(first.id).await.expect("read"), None);
    assert_eq!(foreign.file_by_sha256(&first.sha256).await.expect("read"), None);
    assert!(!foreign.complete_file(first.id, NOW, audit(other)).await.expect("nothing"));
    assert!(!foreign.delete_file(first.id, None).await.expect("nothing"));
    let page = PageRequest { after: None, limit: 5 };
    assert_eq!(foreign.files(page).await.expect("read"), []);
    // The same hash in another tenant is another file.
    let (_, is_new) = foreign.create_file(row(other, "a", 3), LIMITS).await.expect("stored");
    assert!(is_new);
    assert_eq!(tenant.files(page).await.expect("read").len(), 1);
    let known = fixture.store.system().known_files(vec![first.id, FileId::new()]).await;
    assert_eq!(known.expect("read"), [first.id].into());
    assert!(tenant.delete_file(first.id, Some(audit(tenant_id))).await.expect("deleted"));
}

async fn files_are_bounded_by_number_and_size(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let refused = async |sha256, bytes| match tenant
        .create_file(row(fixture.tenant_id, sha256, bytes), LIMITS)
        .await
    {
        Ok(_) => None,
        Err(StoreError::Refused(why)) => Some(why),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(refused("a", 6).await, None);
    assert_eq!(refused("b", 5).await, Some(FILES_FULL));
    assert_eq!(refused("b", 4).await, None);
    assert_eq!(refused("c", 0).await, Some(TOO_MANY_FILES));
}

async fn a_file_that_is_not_used_is_deleted_and_one_that_work_needs_stays(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let (used, unused) = (row(fixture.tenant_id, "a", 1), row(fixture.tenant_id, "b", 1));
    for file in [&used, &unused] {
        tenant.create_file(file.clone(), LIMITS).await.expect("stored");
        tenant.complete_file(file.id, NOW, audit(fixture.tenant_id)).await.expect("completed");
    }
    let kept = tenant.keep_file(&used.sha256, NOW.plus_ms(1_000)).await.expect("kept");
    assert_eq!(kept.map(|file| file.id), Some(used.id));
    // Earlier than before changes nothing.
    tenant.keep_file(&used.sha256, NOW).await.expect("kept");
    let system = fixture.store.system();
    assert_eq!(system.delete_expired_files(NOW.plus_ms(100)).await.expect("swept"), 0);
    assert_eq!(system.delete_expired_files(NOW.plus_ms(101)).await.expect("swept"), 1);
    assert_eq!(tenant.file(unused.id).await.expect("read"), None);
    assert!(tenant.file(used.id).await.expect("read").is_some());
}
