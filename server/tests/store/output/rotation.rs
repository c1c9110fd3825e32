//! Of the output of a service the newest part is kept, byte for byte and without a gap.

use muster_protocol::frame::output::Stream;
use muster_server::store::queries::{Compacted, OutputStream};
use muster_server::store::writer::AppendOutput;
use proptest::test_runner::TestRunner;

use super::scene::{Records, Scene, records, sample};
use crate::fixture::Fixture;
use crate::on_both_databases;

on_both_databases!(
    the_newest_output_is_kept_and_reads_as_printed_also_once_it_is_compacted,
    output_of_a_lost_run_that_goes_on_replaces_what_was_compacted,
);

const KEPT: u64 = 512 * 1024;
/// A part of what is kept, and one frame with its records.
const MOST: u64 = KEPT + KEPT / 16 + 2 * 256 * 1024;

async fn print(scene: &mut Scene, records: Records) {
    let chunk = scene.printed.chunk(&scene.session, scene.id, &records);
    let chunk = AppendOutput { max_log_bytes: Some(KEPT), ..chunk };
    scene.fixture.store.writer().commit(chunk).await.expect("append");
    scene.printed.0.extend(records);
}

/// Checks what is kept, and returns where it starts.
async fn start(scene: &Scene) -> u64 {
    let tenant = scene.fixture.store.tenant(scene.fixture.tenant_id);
    let mut first = 0;
    for stream in [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Both] {
        let printed = scene.printed.of(stream);
        first = tenant.output_start(scene.id, stream).await.expect("read");
        assert_eq!(scene.read(stream, first).await.expect("read"), printed[first as usize..]);
        assert_eq!(tenant.output_end(scene.id, stream).await.expect("read"), printed.len() as u64);
    }
    let length = scene.printed.of(OutputStream::Both).len() as u64;
    assert!(length - first >= KEPT.min(length), "{} of {length}", length - first);
    assert!(length - first <= MOST, "{} of {length}", length - first);
    first
}

async fn the_newest_output_is_kept_and_reads_as_printed_also_once_it_is_compacted(
    fixture: Fixture,
) {
    let mut runner = TestRunner::deterministic();
    let mut scene = Scene::new(fixture).await;
    for number in 0..120 {
        let records = sample(&mut runner, &records());
        print(&mut scene, records).await;
        if number % 10 == 0 {
            start(&scene).await;
        }
    }
    let first = start(&scene).await;
    assert!(first > KEPT, "much was removed: {first}");
    assert!(scene.files().is_empty(), "it is in rows only: {:?}", scene.files());
    scene.end().await;
    assert!(matches!(scene.compact().await, Compacted::Blob { .. }));
    assert_eq!(start(&scene).await, first);
    let found = scene.fixture.store.tenant(scene.fixture.tenant_id);
    let summary = found.output_summary(scene.id).await.expect("read");
    assert_eq!(summary.start_bytes, first);
}

async fn output_of_a_lost_run_that_goes_on_replaces_what_was_compacted(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    let line = |number: usize| vec![(Stream::Stdout, vec![(number % 251) as u8; 60_000])];
    for number in 0..20 {
        print(&mut scene, line(number)).await;
    }
    scene.end().await;
    assert!(matches!(scene.compact().await, Compacted::Blob { .. }));
    let first = start(&scene).await;
    for number in 20..22 {
        print(&mut scene, line(number)).await;
    }
    assert_eq!(start(&scene).await, first, "what was compacted is followed by rows");
    for number in 22..60 {
        print(&mut scene, line(number)).await;
    }
    assert!(start(&scene).await > 22 * 60_000);
    assert!(matches!(scene.compact().await, Compacted::Blob { .. }));
    start(&scene).await;
}
