//! The files of output: damaged, dropped, left over, written over.

use std::path::PathBuf;
use std::time::Duration;

use muster_protocol::frame::Outcome;
use muster_protocol::frame::output::Stream;
use muster_server::store::StoreError;
use muster_server::store::blobs::BlobError;
use muster_server::store::queries::{OutputStream, Retention};
use proptest::test_runner::TestRunner;

use super::scene::{Printed, Scene};
use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    damage_is_an_error_and_never_other_bytes,
    the_oldest_output_goes_first_and_leaves_a_mark,
    files_go_with_the_history_that_names_them,
    leftovers_are_swept_and_nothing_else,
    a_chunk_that_was_never_committed_is_written_over,
);

async fn damage_is_an_error_and_never_other_bytes(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    for is_compacted in [false, true] {
        scene.print_much(700_000).await;
        if is_compacted {
            scene.end().await;
            scene.compact().await;
        }
        let path = scene.file_of_kind(if is_compacted { "compacted" } else { "live" });
        let whole = std::fs::read(&path).expect("read");
        let all = scene.printed.of(OutputStream::Both);
        for at in (0..whole.len()).step_by(whole.len() / 40 + 1).chain([whole.len() - 1]) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&path, flipped).expect("write");
            let read = scene.read(OutputStream::Both, 0).await;
            assert!(is_loss(&read), "a flipped bit at {at} of {}", whole.len());
        }
        for length in [0, 10, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).expect("write");
            let read = scene.read(OutputStream::Both, 0).await;
            assert!(is_loss(&read), "cut to {length} bytes");
        }
        std::fs::remove_file(&path).expect("remove");
        assert!(is_loss(&scene.read(OutputStream::Both, 0).await));
        std::fs::write(&path, &whole).expect("write");
        assert!(scene.read(OutputStream::Both, 0).await.expect("read") == all);
        if !is_compacted {
            scene = scene.next_command().await;
            std::fs::remove_file(&path).expect("remove");
        }
    }
}

async fn the_oldest_output_goes_first_and_leaves_a_mark(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    let mut ids = Vec::new();
    for minute in 0..3 {
        scene.print_much(300_000).await;
        let settle = crate::fixture::settle(&scene.session, scene.id, Outcome::Succeeded);
        let settle =
            muster_server::store::writer::Settle { now: NOW.plus_ms(60_000 * minute), ..settle };
        scene.fixture.store.writer().commit(settle).await.expect("settle");
        scene.compact().await;
        ids.push(scene.id);
        scene = scene.next_command().await;
    }
    let system = scene.fixture.store.system();
    let stored = system.output_stored_bytes().await.expect("read");
    let freed = system.drop_oldest_output(1, NOW).await.expect("drop");
    assert_eq!(stored - freed, system.output_stored_bytes().await.expect("read"));
    assert_eq!(scene.files().len(), 2);
    let tenant = scene.fixture.store.tenant(scene.fixture.tenant_id);
    let summary = tenant.output_summary(ids[0]).await.expect("read");
    assert_eq!((summary.length_bytes, summary.dropped_at), (600_000, Some(NOW)));
    let read = tenant.output_chunks(ids[0], OutputStream::Both, (0, None), 10).await;
    assert!(matches!(read, Err(StoreError::OutputDropped)), "{read:?}");
    for id in &ids[1..] {
        assert_eq!(tenant.output_summary(*id).await.expect("read").dropped_at, None);
        tenant.output_chunks(*id, OutputStream::Both, (0, None), 10).await.expect("read");
    }
    // More wanted than there is: everything goes, and it ends.
    system.drop_oldest_output(u64::MAX, NOW).await.expect("drop");
    assert_eq!(system.drop_oldest_output(1, NOW).await.expect("drop"), 0);
    assert!(scene.files().is_empty(), "{:?}", scene.files());
}

async fn files_go_with_the_history_that_names_them(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    scene.print_much(200_000).await;
    scene.end().await;
    scene.compact().await;
    scene = scene.next_command().await;
    scene.print_much(200_000).await;
    scene.end().await;
    assert_eq!(scene.files().len(), 2);
    let later = NOW.plus_ms(100 * 365 * 24 * 3_600_000);
    let retention = Retention {
        telemetry_before: later,
        idempotency_before: later,
        history_before: later,
        deliveries_before: later,
    };
    while scene.fixture.store.system().drop_old(retention).await.expect("sweep") {}
    assert!(scene.files().is_empty(), "{:?}", scene.files());
    assert_eq!(scene.lengths().await, [0; 3]);
}

async fn leftovers_are_swept_and_nothing_else(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    scene.print_much(200_000).await;
    scene.end().await;
    scene.compact().await;
    let blob = scene.file_of_kind("compacted");
    scene = scene.next_command().await;
    scene.print_much(200_000).await;
    let live = scene.file_of_kind("live");
    // Another id with the same ending, in the same folder.
    let stranger = |path: &PathBuf, ending: &str| {
        let id = path.file_stem().expect("a name").to_string_lossy();
        path.with_file_name(format!("f{}{ending}", &id[1..]))
    };
    for leftover in [
        stranger(&live, ""),
        stranger(&blob, ".1"),
        stranger(&blob, ".2.new"),
        blob.with_extension("7"),
    ] {
        std::fs::write(leftover, b"left over").expect("write");
    }
    let notes = blob.with_file_name("notes of an operator.txt");
    std::fs::write(&notes, b"mine").expect("write");
    let system = scene.fixture.store.system();
    let mut removed = 0;
    for slice in 0..muster_server::store::SystemScope::output_slices() {
        assert_eq!(
            system.sweep_output_files(slice, Duration::from_secs(600)).await.expect("sweep"),
            0
        );
        removed += system.sweep_output_files(slice, Duration::ZERO).await.expect("sweep");
    }
    let mut left = scene.files();
    let mut wanted = vec![blob, live, notes];
    left.sort();
    wanted.sort();
    assert_eq!((left, removed), (wanted, 3));
}

async fn a_chunk_that_was_never_committed_is_written_over(fixture: Fixture) {
    let mut runner = TestRunner::deterministic();
    let mut scene = Scene::new(fixture).await;
    scene.print_much(130_000).await;
    // A server that was killed between the file and the commit.
    let live = scene.file_of_kind("live");
    let mut bytes = std::fs::read(&live).expect("read");
    bytes.extend_from_slice(&[0xee; 200_000]);
    std::fs::write(&live, bytes).expect("write");
    scene.assert_reads_as_printed(&mut runner).await;
    scene.print_much(130_000).await;
    scene.assert_reads_as_printed(&mut runner).await;
}

fn is_loss(read: &Result<Vec<u8>, StoreError>) -> bool {
    matches!(read, Err(StoreError::Blob(error)) if error.is_loss())
}

#[tokio::test]
async fn a_disk_that_fails_costs_one_command_its_chunk_and_no_other() {
    let mut scene = Scene::new(Fixture::sqlite().await).await;
    scene.print_much(130_000).await;
    let live = scene.file_of_kind("live");
    std::fs::remove_file(&live).expect("remove");
    // A folder where the file was: it can't be opened.
    std::fs::create_dir(&live).expect("make");
    let other = scene.fixture.delivered(&scene.session).await;
    let records = vec![(Stream::Stdout, vec![1; 60_000]); 2];
    let failing = scene.printed.chunk(&scene.session, scene.id, &records);
    let good = Printed::default().chunk(&scene.session, other, &records);
    let writer = scene.fixture.store.writer();
    let (failed, stored) = tokio::join!(writer.commit(failing), writer.commit(good));
    assert!(matches!(failed, Err(StoreError::Blob(BlobError::Io { .. }))), "{failed:?}");
    assert_eq!(stored.expect("append"), 120_000);
    assert_eq!(scene.lengths().await[0], 240_000);
}
