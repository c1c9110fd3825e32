//! What is over is compacted, and reads as it did before.

use std::path::PathBuf;
use std::time::Duration;

use muster_protocol::frame::output::Stream;
use muster_server::store::StoreError;
use muster_server::store::queries::Compacted;
use muster_server::store::writer::AppendOutput;
use proptest::test_runner::TestRunner;

use super::scene::{Scene, records, sample};
use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    ranges_of_every_stream_are_the_same_before_and_after_compaction,
    output_that_comes_late_follows_what_was_compacted,
    short_output_is_merged_into_one_row,
    a_command_that_has_not_ended_is_left_alone,
    output_to_compact_is_found_step_by_step_among_that_of_running_commands,
    a_compaction_goes_on_wherever_it_was_cut_off,
);

async fn ranges_of_every_stream_are_the_same_before_and_after_compaction(fixture: Fixture) {
    let mut runner = TestRunner::deterministic();
    let mut scene = Scene::new(fixture).await;
    for _ in 0..6 {
        for _ in 0..sample(&mut runner, &(1usize..12)) {
            let records = sample(&mut runner, &records());
            scene.print(records).await;
        }
        scene.assert_reads_as_printed(&mut runner).await;
        scene.end().await;
        let lengths = scene.lengths().await;
        scene.compact().await;
        assert_eq!(scene.lengths().await, lengths);
        scene.assert_reads_as_printed(&mut runner).await;
        assert_eq!(scene.compact().await, Compacted::Unchanged);
        scene = scene.next_command().await;
    }
}

async fn output_that_comes_late_follows_what_was_compacted(fixture: Fixture) {
    let mut runner = TestRunner::deterministic();
    let mut scene = Scene::new(fixture).await;
    scene.print_much(300_000).await;
    // A command that was lost and whose agent comes back.
    scene.end().await;
    scene.compact().await;
    for records in
        [vec![(Stream::Stderr, b"late".to_vec())], vec![(Stream::Stdout, vec![7; 60_000]); 2]]
    {
        let gap = AppendOutput {
            offset_bytes: 0,
            ..scene.printed.chunk(&scene.session, scene.id, &records)
        };
        scene.print(records).await;
        let writer = scene.fixture.store.writer();
        let gap = writer.commit(AppendOutput { offset_bytes: 1, ..gap }).await;
        assert!(matches!(gap, Err(StoreError::OutputMissing)), "{gap:?}");
        scene.assert_reads_as_printed(&mut runner).await;
    }
    assert!(matches!(scene.compact().await, Compacted::Blob { .. }));
    scene.assert_reads_as_printed(&mut runner).await;
    assert_eq!(scene.files().len(), 1, "{:?}", scene.files());
}

async fn short_output_is_merged_into_one_row(fixture: Fixture) {
    let mut runner = TestRunner::deterministic();
    let mut scene = Scene::new(fixture).await;
    for line in 0..20 {
        scene.print(vec![(Stream::Stdout, format!("line {line}\n").into_bytes())]).await;
    }
    scene.end().await;
    assert_eq!(scene.to_compact(None).await, [scene.id]);
    assert_eq!(scene.compact().await, Compacted::Row);
    scene.assert_reads_as_printed(&mut runner).await;
    assert!(scene.to_compact(None).await.is_empty());
    assert!(scene.files().is_empty(), "{:?}", scene.files());
}

async fn a_command_that_has_not_ended_is_left_alone(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    scene.print_much(200_000).await;
    assert!(scene.to_compact(None).await.is_empty());
    scene.end().await;
    assert_eq!(scene.to_compact(None).await, [scene.id]);
    assert!(scene.to_compact(Some(scene.id)).await.is_empty());
}

async fn output_to_compact_is_found_step_by_step_among_that_of_running_commands(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    let (mut all, mut over) = (Vec::new(), Vec::new());
    for number in 0..7 {
        for _ in 0..5 {
            scene.print(vec![(Stream::Stdout, vec![7; 3_000])]).await;
        }
        all.push(scene.id);
        if number % 3 == 1 {
            scene.end().await;
            over.push(scene.id);
        }
        scene = scene.next_command().await;
        // One short chunk, as most have: it is in no walk.
        scene.print(vec![(Stream::Stdout, vec![7; 3_000])]).await;
        scene.end().await;
        scene = scene.next_command().await;
    }
    let system = scene.fixture.store.system();
    for limit in [1, 2, 3, 7, 8] {
        let (mut behind, mut found, mut steps) = (None, Vec::new(), 0);
        loop {
            let round = system.to_compact(behind, NOW, limit).await.expect("read");
            assert!(round.ids.len() as u64 <= limit);
            found.extend(round.ids);
            steps += 1;
            behind = match round.walked_to {
                Some(last) => Some(last),
                None => break,
            };
        }
        assert_eq!(found, over, "{limit} at a time");
        assert_eq!(steps, all.len() as u64 / limit + 1, "{limit} at a time");
    }
    // An agent that was called lost sends the rest for an hour, and then no more.
    let close = muster_server::store::writer::CloseSession {
        tenant_id: scene.fixture.tenant_id,
        agent_id: scene.session.agent_id,
        epoch: scene.session.epoch,
        reason: "test",
        now: NOW,
    };
    scene.fixture.store.writer().commit(close).await.expect("close");
    let lost_at = NOW.plus_ms(60_000);
    system.mark_offline_lost(lost_at, NOW).await.expect("sweep");
    let due_at = lost_at.plus_ms(3_600_001);
    for (hour_ms, expected, due_at) in [(3_600_000, over, Some(due_at)), (3_600_001, all, None)] {
        let found = system.to_compact(None, lost_at.plus_ms(hour_ms), 10).await.expect("read");
        assert_eq!((found.ids, found.due_at), (expected, due_at));
    }
}

async fn a_compaction_goes_on_wherever_it_was_cut_off(fixture: Fixture) {
    let mut runner = TestRunner::deterministic();
    let mut scene = Scene::new(fixture).await;
    // More chunks than one deletion takes.
    for _ in 0..150 {
        scene.print(vec![(Stream::Stdout, vec![3; 5_000])]).await;
    }
    scene.print_much(200_000).await;
    scene.end().await;
    let before = scene.files();
    let live = scene.file_of_kind("live");
    let kept = std::fs::read(&live).expect("read");
    // Half a file of a server that was killed in the middle of it, and a whole one without a row.
    let compacted = scene.fixture.test_dir.path().join("data/output/compacted");
    let inner: PathBuf =
        live.components().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
    let whole = compacted.join(&inner).with_added_extension("1");
    std::fs::create_dir_all(whole.parent().expect("a folder")).expect("make");
    std::fs::write(whole.with_added_extension("new"), b"half").expect("write");
    std::fs::write(&whole, b"of an earlier attempt").expect("write");
    scene.assert_reads_as_printed(&mut runner).await;
    assert!(matches!(scene.compact().await, Compacted::Blob { .. }));
    scene.assert_reads_as_printed(&mut runner).await;
    assert_eq!(scene.files(), [whole]);
    // The file that was to go stayed behind.
    std::fs::write(&live, kept).expect("write");
    let system = scene.fixture.store.system();
    for slice in 0..muster_server::store::SystemScope::output_slices() {
        system.sweep_output_files(slice, Duration::ZERO).await.expect("sweep");
    }
    assert_eq!(scene.files().len(), before.len());
    scene.assert_reads_as_printed(&mut runner).await;
}
