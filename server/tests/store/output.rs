//! Output: in rows, in files, compacted; the same bytes whatever happens to it.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use muster_protocol::frame::Outcome;
use muster_protocol::frame::output::{Stream, record_header, records_of};
use muster_server::domain::ids::CommandId;
use muster_server::domain::state::CommandState;
use muster_server::store::StoreError;
use muster_server::store::blobs::BlobError;
use muster_server::store::queries::{Compacted, OutputStream, Retention};
use muster_server::store::writer::{AppendOutput, OpenedSession};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    ranges_of_every_stream_are_the_same_before_and_after_compaction,
    output_that_comes_late_follows_what_was_compacted,
    short_output_is_merged_into_one_row,
    a_command_that_has_not_ended_is_left_alone,
    output_to_compact_is_found_step_by_step_among_that_of_running_commands,
    a_compaction_goes_on_wherever_it_was_cut_off,
    damage_is_an_error_and_never_other_bytes,
    the_oldest_output_goes_first_and_leaves_a_mark,
    files_go_with_the_history_that_names_them,
    leftovers_are_swept_and_nothing_else,
    a_chunk_that_was_never_committed_is_written_over,
    a_report_is_not_recorded_before_the_output_that_came_before_it,
    reports_are_told_apart_by_the_chunks_that_they_come_behind,
    a_report_that_is_sent_again_finds_its_output_in_the_row_it_was_merged_into,
);

const STREAMS: [OutputStream; 3] = [OutputStream::Both, OutputStream::Stdout, OutputStream::Stderr];

/// What a command has printed, as it should be read.
#[derive(Default)]
struct Printed(Vec<(Stream, Vec<u8>)>);

impl Printed {
    fn of(&self, wanted: OutputStream) -> Vec<u8> {
        let is_wanted = |stream: Stream| match wanted {
            OutputStream::Both => true,
            OutputStream::Stdout => stream == Stream::Stdout,
            OutputStream::Stderr => stream == Stream::Stderr,
        };
        let records = self.0.iter().filter(|(stream, _)| is_wanted(*stream));
        records.flat_map(|(_, payload)| payload.clone()).collect()
    }

    fn chunk(&self, session: &OpenedSession, id: CommandId, records: &Records) -> AppendOutput {
        let length = |stream: Option<Stream>, records: &Records| -> u64 {
            let wanted = records.iter().filter(|record| stream.is_none_or(|one| one == record.0));
            wanted.map(|(_, payload)| payload.len() as u64).sum()
        };
        let mut bytes = Vec::new();
        for (stream, payload) in records {
            bytes.extend_from_slice(&record_header(*stream, payload.len() as u32));
            bytes.extend_from_slice(payload);
        }
        AppendOutput {
            agent_id: session.agent_id,
            epoch: session.epoch,
            command_id: id,
            offset_bytes: length(None, &self.0),
            length_bytes: length(None, records),
            stdout_offset_bytes: length(Some(Stream::Stdout), &self.0),
            stdout_bytes: length(Some(Stream::Stdout), records),
            records: Bytes::from(bytes),
        }
    }
}

type Records = Vec<(Stream, Vec<u8>)>;

/// A run of records as an agent sends them: short lines, or full ones of a backlog.
fn records() -> impl Strategy<Value = Records> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..200),
        1 => (any::<u8>(), 20_000usize..65_536).prop_map(|(byte, length)| {
            (0..length).map(|at| byte.wrapping_add((at / 7 % 251) as u8)).collect()
        }),
    ];
    prop::collection::vec((stream, payload), 1..4)
}

fn sample<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).expect("a value").current()
}

struct Scene {
    fixture: Fixture,
    session: OpenedSession,
    id: CommandId,
    printed: Printed,
}

impl Scene {
    async fn new(fixture: Fixture) -> Self {
        let session = fixture.agent("host").await;
        let id = fixture.delivered(&session).await;
        Self { fixture, session, id, printed: Printed::default() }
    }

    /// Begins a second command on the same host.
    async fn next_command(self) -> Self {
        let id = self.fixture.delivered(&self.session).await;
        Self { id, printed: Printed::default(), ..self }
    }

    async fn print(&mut self, records: Records) {
        let chunk = self.printed.chunk(&self.session, self.id, &records);
        let end = chunk.offset_bytes + chunk.length_bytes;
        let committed = self.fixture.store.writer().commit(chunk).await.expect("append");
        assert_eq!(committed, end);
        self.printed.0.extend(records);
    }

    /// So many bytes of noise, in chunks that go into the file.
    async fn print_much(&mut self, bytes: usize) {
        for at in 0..bytes / 60_000 {
            let line: Vec<u8> =
                (0..60_000).map(|byte| ((byte * 31 + at * 7) % 253) as u8).collect();
            self.print(vec![(Stream::Stdout, line.clone()), (Stream::Stderr, line)]).await;
        }
    }

    async fn end(&self) {
        self.fixture.settle(&self.session, self.id, Outcome::Succeeded).await;
    }

    async fn to_compact(&self, behind: Option<CommandId>) -> Vec<CommandId> {
        let system = self.fixture.store.system();
        let found = system.to_compact(behind, NOW, 10).await.expect("read");
        assert_eq!(found.walked_to, None, "there are only a few");
        found.ids
    }

    async fn compact(&self) -> Compacted {
        self.fixture.store.system().compact(self.id).await.expect("compact")
    }

    /// Reads a stream from an offset to its end, as services do.
    async fn read(&self, stream: OutputStream, from: u64) -> Result<Vec<u8>, StoreError> {
        let tenant = self.fixture.store.tenant(self.fixture.tenant_id);
        let end = tenant.output_end(self.id, stream).await?;
        let (mut next, mut behind, mut read) = (from, None, Vec::new());
        while next < end {
            let chunks = tenant.output_chunks(self.id, stream, (next, behind), 3).await?;
            behind = Some(chunks.last().expect("there is more").offset_bytes);
            for chunk in chunks {
                let mut at = match stream {
                    OutputStream::Both => chunk.offset_bytes,
                    OutputStream::Stdout => chunk.stdout_offset_bytes,
                    OutputStream::Stderr => chunk.offset_bytes - chunk.stdout_offset_bytes,
                }
                .cast_unsigned();
                let records: Records = records_of(&chunk.records)
                    .map(|record| record.expect("whole"))
                    .map(|record| (record.stream, record.payload.to_vec()))
                    .collect();
                let payload = Printed(records).of(stream);
                let known = usize::try_from(next - at).expect("no gap");
                read.extend_from_slice(payload.get(known..).unwrap_or_default());
                at += payload.len() as u64;
                next = at;
            }
        }
        Ok(read)
    }

    async fn assert_reads_as_printed(&self, runner: &mut TestRunner) {
        for stream in STREAMS {
            let all = self.printed.of(stream);
            let froms = sample(runner, &prop::collection::vec(0..all.len() as u64 + 1, 4));
            for from in [vec![0], froms].concat() {
                let read = self.read(stream, from).await.expect("read");
                assert!(read == all[from as usize..], "{stream:?} from {from} differs");
            }
        }
    }

    async fn lengths(&self) -> [u64; 3] {
        let tenant = self.fixture.store.tenant(self.fixture.tenant_id);
        let mut lengths = [0; 3];
        for (length, stream) in lengths.iter_mut().zip(STREAMS) {
            *length = tenant.output_end(self.id, stream).await.expect("read");
        }
        lengths
    }

    fn files(&self) -> Vec<PathBuf> {
        files_below(self.fixture.site.path().join("data/output"))
    }

    fn file_of_kind(&self, kind: &str) -> PathBuf {
        let found = self.files().into_iter().find(|path| path.to_string_lossy().contains(kind));
        found.unwrap_or_else(|| panic!("no {kind} file among {:?}", self.files()))
    }
}

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files_below(path) } else { vec![path] }).collect()
}

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
    system.lose_away(lost_at, NOW).await.expect("sweep");
    for (hour_ms, expected) in [(3_600_000, over), (3_600_001, all)] {
        let found = system.to_compact(None, lost_at.plus_ms(hour_ms), 10).await.expect("read");
        assert_eq!(found.ids, expected);
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
    let compacted = scene.fixture.site.path().join("data/output/compacted");
    let inner: PathBuf =
        live.components().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
    let whole = compacted.join(&inner).with_added_extension("1");
    std::fs::create_dir_all(whole.parent().expect("a folder")).expect("make");
    std::fs::write(whole.with_added_extension("new"), b"half").expect("write");
    std::fs::write(&whole, b"of a turn before").expect("write");
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

fn is_loss(read: &Result<Vec<u8>, StoreError>) -> bool {
    matches!(read, Err(StoreError::Blob(error)) if error.is_loss())
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
    // Another id that ends alike, and lies in the same folder.
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
    // Once compacted, the blob stands in for the chunk.
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
