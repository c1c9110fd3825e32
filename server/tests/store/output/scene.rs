//! A command on a host, what it has printed, and what is read of it.

use std::path::PathBuf;

use bytes::Bytes;
use muster_protocol::frame::Outcome;
use muster_protocol::frame::output::{Stream, record_header, records_of};
use muster_server::domain::ids::CommandId;
use muster_server::store::StoreError;
use muster_server::store::queries::{Compacted, OutputStream};
use muster_server::store::writer::{AppendOutput, OpenedSession};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::fixture::{Fixture, NOW};

pub(super) const STREAMS: [OutputStream; 3] =
    [OutputStream::Both, OutputStream::Stdout, OutputStream::Stderr];

/// What a command has printed, as it should be read.
#[derive(Default)]
pub(super) struct Printed(pub(super) Vec<(Stream, Vec<u8>)>);

impl Printed {
    pub(super) fn of(&self, wanted: OutputStream) -> Vec<u8> {
        let is_wanted = |stream: Stream| match wanted {
            OutputStream::Both => true,
            OutputStream::Stdout => stream == Stream::Stdout,
            OutputStream::Stderr => stream == Stream::Stderr,
        };
        let records = self.0.iter().filter(|(stream, _)| is_wanted(*stream));
        records.flat_map(|(_, payload)| payload.clone()).collect()
    }

    pub(super) fn chunk(
        &self,
        session: &OpenedSession,
        id: CommandId,
        records: &Records,
    ) -> AppendOutput {
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
            received_at: muster_server::domain::time::Timestamp(1),
            max_log_bytes: None,
        }
    }
}

pub(super) type Records = Vec<(Stream, Vec<u8>)>;

/// A run of records as an agent sends them: short lines, or full ones of a backlog.
pub(super) fn records() -> impl Strategy<Value = Records> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..200),
        1 => (any::<u8>(), 20_000usize..65_536).prop_map(|(byte, length)| {
            (0..length).map(|at| byte.wrapping_add((at / 7 % 251) as u8)).collect()
        }),
    ];
    prop::collection::vec((stream, payload), 1..4)
}

pub(super) fn sample<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).expect("a value").current()
}

pub(super) struct Scene {
    pub(super) fixture: Fixture,
    pub(super) session: OpenedSession,
    pub(super) id: CommandId,
    pub(super) printed: Printed,
}

impl Scene {
    pub(super) async fn new(fixture: Fixture) -> Self {
        let session = fixture.agent("host").await;
        let id = fixture.delivered(&session).await;
        Self { fixture, session, id, printed: Printed::default() }
    }

    /// Starts a second command on the same host.
    pub(super) async fn next_command(self) -> Self {
        let id = self.fixture.delivered(&self.session).await;
        Self { id, printed: Printed::default(), ..self }
    }

    pub(super) async fn print(&mut self, records: Records) {
        let chunk = self.printed.chunk(&self.session, self.id, &records);
        let end = chunk.offset_bytes + chunk.length_bytes;
        let committed = self.fixture.store.writer().commit(chunk).await.expect("append");
        assert_eq!(committed, end);
        self.printed.0.extend(records);
    }

    /// So many bytes of noise, in chunks that go into the file.
    pub(super) async fn print_much(&mut self, bytes: usize) {
        for at in 0..bytes / 60_000 {
            let line: Vec<u8> =
                (0..60_000).map(|byte| ((byte * 31 + at * 7) % 253) as u8).collect();
            self.print(vec![(Stream::Stdout, line.clone()), (Stream::Stderr, line)]).await;
        }
    }

    pub(super) async fn end(&self) {
        self.fixture.settle(&self.session, self.id, Outcome::Succeeded).await;
    }

    pub(super) async fn to_compact(&self, behind: Option<CommandId>) -> Vec<CommandId> {
        let system = self.fixture.store.system();
        let found = system.to_compact(behind, NOW, 10).await.expect("read");
        assert_eq!(found.walked_to, None, "there are only a few");
        found.ids
    }

    pub(super) async fn compact(&self) -> Compacted {
        self.fixture.store.system().compact(self.id).await.expect("compact")
    }

    /// Reads a stream from an offset to its end, as services do.
    pub(super) async fn read(
        &self,
        stream: OutputStream,
        from: u64,
    ) -> Result<Vec<u8>, StoreError> {
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

    pub(super) async fn assert_reads_as_printed(&self, runner: &mut TestRunner) {
        for stream in STREAMS {
            let all = self.printed.of(stream);
            let froms = sample(runner, &prop::collection::vec(0..all.len() as u64 + 1, 4));
            for from in [vec![0], froms].concat() {
                let read = self.read(stream, from).await.expect("read");
                assert!(read == all[from as usize..], "{stream:?} from {from} differs");
            }
        }
    }

    pub(super) async fn lengths(&self) -> [u64; 3] {
        let tenant = self.fixture.store.tenant(self.fixture.tenant_id);
        let mut lengths = [0; 3];
        for (length, stream) in lengths.iter_mut().zip(STREAMS) {
            *length = tenant.output_end(self.id, stream).await.expect("read");
        }
        lengths
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        files_below(self.fixture.test_dir.path().join("data/output"))
    }

    pub(super) fn file_of_kind(&self, kind: &str) -> PathBuf {
        let found = self.files().into_iter().find(|path| path.to_string_lossy().contains(kind));
        found.unwrap_or_else(|| panic!("no {kind} file among {:?}", self.files()))
    }
}

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files_below(path) } else { vec![path] }).collect()
}
