//! Reads an execution's output from a viewer's offset, a few chunks at a time.

use std::collections::VecDeque;

use muster_protocol::frame::output::{Stream, records_of};

use super::Ended;
use crate::domain::commands::output_event::{Cutter, Piece};
use crate::domain::ids::CommandId;
use crate::store::StoreError;
use crate::store::entities::commands::output_chunk;
use crate::store::queries::{CommandWithReport, OutputStream, TenantScope};

/// Chunks of one read, each at most 256 KiB.
const CHUNKS: u64 = 4;

/// The output of one execution from an offset.
#[derive(Debug)]
pub(super) struct LiveOutputReader {
    tenant: TenantScope,
    command_id: CommandId,
    stream: OutputStream,
    /// Payload of both streams before the next read.
    next_bytes: u64,
    cutter: Cutter,
    /// Output that was removed before it was read, which the viewer must learn before what follows it.
    removed: Option<Removed>,
}

/// Output that is not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Payload of both streams before it.
    pub offset_bytes: u64,
    /// Payload of both streams up to its end, where the output goes on.
    pub next_offset_bytes: u64,
}

impl LiveOutputReader {
    pub(super) fn new(
        tenant: TenantScope,
        command_id: CommandId,
        stream: OutputStream,
        from_bytes: u64,
    ) -> Self {
        let cutter = Cutter::new(from_bytes);
        Self { tenant, command_id, stream, next_bytes: from_bytes, cutter, removed: None }
    }

    /// Reads the next chunks; false if there are none yet. They may contain nothing of the
    /// requested stream.
    pub(super) async fn read(&mut self, pieces: &mut VecDeque<Piece>) -> Result<bool, StoreError> {
        let before = self.next_bytes;
        // Offsets count both streams, also if one stream was requested.
        let from = (self.next_bytes, None);
        let chunks =
            self.tenant.output_chunks(self.command_id, OutputStream::Both, from, CHUNKS).await?;
        let first_bytes = chunks.first().map_or(0, |chunk| chunk.offset_bytes.cast_unsigned());
        if first_bytes > self.next_bytes {
            let removed = Removed { offset_bytes: self.next_bytes, next_offset_bytes: first_bytes };
            self.removed = Some(removed);
            self.cutter.skip(first_bytes - self.next_bytes, pieces);
            self.next_bytes = first_bytes;
        }
        for chunk in &chunks {
            self.take(chunk, pieces);
        }
        self.cutter.pause(pieces);
        Ok(self.next_bytes > before)
    }

    fn take(&mut self, chunk: &output_chunk::Model, pieces: &mut VecDeque<Piece>) {
        let mut offset = chunk.offset_bytes.cast_unsigned();
        // Records were validated before they were stored.
        for record in records_of(&chunk.records).flatten() {
            let end = offset + record.payload.len() as u64;
            let known = self.next_bytes.saturating_sub(offset);
            let payload = usize::try_from(known).ok().and_then(|known| record.payload.get(known..));
            if let Some(payload) = payload.filter(|payload| !payload.is_empty()) {
                match (self.stream, record.stream) {
                    (OutputStream::Both, _)
                    | (OutputStream::Stdout, Stream::Stdout)
                    | (OutputStream::Stderr, Stream::Stderr) => {
                        self.cutter.push(record.stream, payload, pieces);
                    }
                    _ => self.cutter.skip(payload.len() as u64, pieces),
                }
                self.next_bytes = end;
            }
            offset = end;
        }
    }

    /// What was removed before this piece, or before what will be read next. Returned once.
    pub(super) fn removed_before(&mut self, piece: Option<&Piece>) -> Option<Removed> {
        let is_next = |removed: &Removed| {
            piece.is_none_or(|piece| piece.offset_bytes >= removed.next_offset_bytes)
        };
        self.removed.take_if(|removed| is_next(removed))
    }

    /// Emits the bytes of an incomplete character.
    pub(super) fn finish(&mut self, pieces: &mut VecDeque<Piece>) {
        self.cutter.finish(pieces);
    }

    /// The execution; `None` if it was deleted.
    pub(super) async fn command(&self) -> Result<Option<CommandWithReport>, StoreError> {
        self.tenant.command(self.command_id).await
    }

    /// The result of the execution.
    pub(super) async fn ended(&self, found: CommandWithReport) -> Result<Ended, StoreError> {
        let end = async |stream| self.tenant.output_end(self.command_id, stream).await;
        let start = self.tenant.output_start(self.command_id, OutputStream::Both).await?;
        let ended =
            Ended::new(found, end(OutputStream::Both).await?, end(OutputStream::Stdout).await?);
        let is_output_incomplete = ended.is_output_incomplete || start > 0;
        Ok(Ended { is_output_incomplete, ..ended })
    }
}
