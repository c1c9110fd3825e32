//! A report is stored after the output that came before it.

use muster_protocol::frame::Outcome;
use muster_protocol::frame::output::Stream;
use muster_server::domain::commands::command_state::CommandState;
use muster_server::store::StoreError;
use muster_server::store::queries::Compacted;

use super::scene::{Printed, Scene};
use crate::fixture::Fixture;
use crate::on_both_databases;

on_both_databases!(
    a_report_is_not_recorded_before_the_output_that_came_before_it,
    reports_are_told_apart_by_the_chunks_that_they_come_behind,
    a_report_that_is_sent_again_finds_its_output_in_the_row_it_was_merged_into,
);

async fn a_report_is_not_recorded_before_the_output_that_came_before_it(fixture: Fixture) {
    let mut scene = Scene::new(fixture).await;
    scene.print_much(130_000).await;
    let report = |last_chunk_bytes| muster_server::store::writer::Settle {
        last_chunk_bytes,
        ..crate::fixture::settle(&scene.session, scene.id, Outcome::Succeeded)
    };
    let writer = scene.fixture.store.writer();
    // A chunk that failed while its report was on the way behind it.
    let early = writer.commit(report(Some(240_000))).await;
    assert!(matches!(early, Err(StoreError::OutputMissing)), "{early:?}");
    assert_eq!(scene.fixture.state(scene.id).await, CommandState::Delivered);
    writer.commit(report(Some(120_000))).await.expect("settle");
    assert_eq!(scene.fixture.state(scene.id).await, CommandState::Succeeded);
    // Once compacted, the blob replaces the chunk.
    scene.compact().await;
    writer.commit(report(Some(120_000))).await.expect("settle again");
}

async fn reports_are_told_apart_by_the_chunks_that_they_come_behind(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let mut reports = Vec::new();
    // Each command has one chunk more than the last: what one lacks, another has.
    for count in 0..4u64 {
        let (id, mut printed) = (fixture.delivered(&session).await, Printed::default());
        for _ in 0..count {
            let records = vec![(Stream::Stdout, vec![7; 10])];
            let chunk = printed.chunk(&session, id, &records);
            fixture.store.writer().commit(chunk).await.expect("append");
            printed.0.extend(records);
        }
        for last in 0..4 {
            let report = muster_server::store::writer::Settle {
                last_chunk_bytes: Some(last * 10),
                ..crate::fixture::settle(&session, id, Outcome::Succeeded)
            };
            reports.push((last < count, report));
        }
    }
    let writer = fixture.store.writer();
    let expected: Vec<bool> = reports.iter().map(|(is_stored, _)| *is_stored).collect();
    let commits = reports.into_iter().map(|(_, report)| writer.commit(report));
    let recorded = futures_util::future::join_all(commits).await;
    let missing = |result: &Result<_, _>| !matches!(result, Err(StoreError::OutputMissing));
    assert_eq!(recorded.iter().map(missing).collect::<Vec<_>>(), expected);
}

async fn a_report_that_is_sent_again_finds_its_output_in_the_row_it_was_merged_into(
    fixture: Fixture,
) {
    let mut scene = Scene::new(fixture).await;
    for _ in 0..3 {
        scene.print(vec![(Stream::Stdout, vec![7; 10])]).await;
    }
    let report = |last_chunk_bytes| muster_server::store::writer::Settle {
        last_chunk_bytes,
        ..crate::fixture::settle(&scene.session, scene.id, Outcome::Succeeded)
    };
    let writer = scene.fixture.store.writer();
    writer.commit(report(Some(20))).await.expect("settle");
    assert_eq!(scene.compact().await, Compacted::Row);
    let again = writer.commit(report(Some(20))).await.expect("settle again");
    assert_eq!(again.receipt, muster_protocol::frame::Receipt::Recorded);
    let beyond = writer.commit(report(Some(30))).await;
    assert!(matches!(beyond, Err(StoreError::OutputMissing)), "{beyond:?}");
}
