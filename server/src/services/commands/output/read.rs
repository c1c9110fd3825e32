//! Reads the output of commands by byte ranges, also while it grows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_protocol::frame::output::{Stream, records_of};
use serde::Deserialize;

use crate::domain::access::principal::Scope;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::range::ByteRange;
use crate::domain::commands::records::CommandRecord;
use crate::domain::commands::work::output_scopes;
use crate::domain::ids::CommandId;
use crate::hub::Hub;
use crate::services::access::caller::Caller;
use crate::services::commands::MAX_WAIT_MS;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::commands::output_chunk;
use crate::store::queries::{CommandWithReport, OutputStream, OutputSummary, TenantScope};
use crate::store::{Store, StoreError};

/// Chunks that a reader holds in memory at once, each at most 256 KiB.
const CHUNKS: u64 = 16;

/// Use cases of output.
#[derive(Clone, Debug)]
pub struct Output {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
}

/// A part of an output, which is read in pieces.
#[derive(Debug)]
pub struct OutputPart {
    pub state: CommandState,
    /// Committed payload of the requested stream.
    pub length_bytes: u64,
    /// Payload of the requested stream that was removed, because only the newest output is kept.
    pub first_bytes: u64,
    /// Offset of the first byte of the part.
    pub start_bytes: u64,
    /// Offset after the last byte of the part.
    pub end_bytes: u64,
    /// Read before the response starts, so that unreadable output is refused with a reason.
    first: Option<Bytes>,
    reader: PartReader,
}

#[derive(Debug)]
struct PartReader {
    tenant: TenantScope,
    command_id: CommandId,
    stream: OutputStream,
    next_bytes: u64,
    end_bytes: u64,
    /// Start of the last chunk that was read. The next chunk is searched after it.
    behind_bytes: Option<i64>,
}

impl Output {
    /// The script of an execution.
    ///
    /// # Errors
    /// `not_found`, also for a command that is no execution.
    pub async fn script(&self, caller: &Caller, id: CommandId) -> Result<String> {
        caller.require(Scope::CommandsRead)?;
        let found = self.store.tenant(caller.principal.tenant_id).command(id).await?;
        let command = found.map(|found| found.command);
        let execution = command.filter(|command| command.command == "execute");
        let execution = execution.ok_or(ServiceError::NotFound("execution"))?;
        require_output(caller, &execution)?;
        Ok(script_of(&execution.data).unwrap_or_default())
    }

    /// The length of a command's output. The command was found for this caller.
    pub async fn summary(
        &self,
        caller: &Caller,
        found: &CommandWithReport,
    ) -> Result<OutputSummary> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        Ok(tenant.output_summary(found.command.id).await?)
    }

    /// Opens a part of a command's output, after it waited up to `wait_ms` for bytes after the
    /// start of the range.
    ///
    /// Returns the command's state and the length if the range has no bytes yet.
    pub async fn open(
        &self,
        caller: &Caller,
        command_id: CommandId,
        stream: OutputStream,
        range: ByteRange,
        wait_ms: u64,
    ) -> Result<std::result::Result<OutputPart, (CommandState, u64)>> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let watch = self.hub.watch_command(command_id);
        let wait = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let changed = watch.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // Reads the state first: all output of an ended command is committed.
            let found = tenant.command(command_id).await?;
            let command = found.ok_or(ServiceError::NotFound("command"))?.command;
            require_output(caller, &command)?;
            let state = command.state;
            let length_bytes = tenant.output_end(command_id, stream).await?;
            let first_bytes = tenant.output_start(command_id, stream).await?;
            if range
                .resolve(length_bytes)
                .is_some_and(|(start, end)| start < end && end <= first_bytes)
            {
                return Err(OUTPUT_REMOVED);
            }
            if let Some((start_bytes, end_bytes)) = range.resolve_from(first_bytes, length_bytes)
                && (start_bytes < end_bytes || state.is_terminal() || wait_ms == 0)
            {
                let next_bytes = start_bytes;
                let behind_bytes = None;
                let mut reader =
                    PartReader { tenant, command_id, stream, next_bytes, end_bytes, behind_bytes };
                let first = reader.next().await.map_err(output_error)?;
                let part = OutputPart {
                    state,
                    length_bytes,
                    first_bytes,
                    start_bytes,
                    end_bytes,
                    first,
                    reader,
                };
                return Ok(Ok(part));
            }
            if state.is_terminal() || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(Err((state, length_bytes)));
            }
        }
    }
}

/// # Errors
/// 403 without the scopes for the output of this command.
pub(in crate::services) fn require_output(caller: &Caller, command: &CommandRecord) -> Result<()> {
    let scopes = output_scopes(command.script.as_deref());
    scopes.iter().try_for_each(|scope| caller.require(*scope))
}

/// The script in the data of an `execute`.
pub(in crate::services) fn script_of(data: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        script: String,
    }
    serde_json::from_str::<Named>(data).ok().map(|named| named.script)
}

impl OutputPart {
    /// The next bytes; `None` at the end of the part.
    ///
    /// # Errors
    /// [`StoreError`]; the part ends early then.
    pub async fn next(&mut self) -> std::result::Result<Option<Bytes>, StoreError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.reader.next().await,
        }
    }
}

impl PartReader {
    async fn next(&mut self) -> std::result::Result<Option<Bytes>, StoreError> {
        if self.next_bytes >= self.end_bytes {
            return Ok(None);
        }
        let from = (self.next_bytes, self.behind_bytes);
        let chunks = self.tenant.output_chunks(self.command_id, self.stream, from, CHUNKS).await?;
        let mut bytes = Vec::new();
        self.behind_bytes = chunks.last().map(|chunk| chunk.offset_bytes);
        for chunk in &chunks {
            self.take(chunk, &mut bytes);
        }
        match bytes.is_empty() {
            false => Ok(Some(bytes.into())),
            // The output was committed before. Its history was deleted while it was read.
            true => Err(StoreError::OutputDropped),
        }
    }

    /// Copies the requested bytes of a chunk.
    fn take(&mut self, chunk: &output_chunk::Model, bytes: &mut Vec<u8>) {
        let mut offset = match self.stream {
            OutputStream::Both => chunk.offset_bytes,
            OutputStream::Stdout => chunk.stdout_offset_bytes,
            OutputStream::Stderr => chunk.offset_bytes - chunk.stdout_offset_bytes,
        }
        .cast_unsigned();
        // Records were validated before they were stored.
        for record in records_of(&chunk.records).flatten() {
            let is_wanted = match self.stream {
                OutputStream::Both => true,
                OutputStream::Stdout => record.stream == Stream::Stdout,
                OutputStream::Stderr => record.stream == Stream::Stderr,
            };
            if !is_wanted {
                continue;
            }
            let record_end = offset + record.payload.len() as u64;
            if record_end > self.next_bytes && self.next_bytes < self.end_bytes {
                let from = self.next_bytes.saturating_sub(offset);
                let to = self.end_bytes.min(record_end) - offset;
                let wanted = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
                bytes.extend_from_slice(record.payload.get(wanted).unwrap_or_default());
                self.next_bytes = offset + to;
            }
            offset = record_end;
        }
    }
}

/// The error for a range that was removed, because only the newest output is kept.
const OUTPUT_REMOVED: ServiceError = ServiceError::Gone {
    code: "output_removed",
    detail: "these bytes were removed, because the newest output of a service is kept only; `muster-first-offset` of a request without a range is the first offset that is kept, and `max_log_bytes` of the package says how much is kept",
};

/// The error for output that is lost.
pub(in crate::services) fn output_error(error: StoreError) -> ServiceError {
    match error {
        StoreError::OutputDropped => ServiceError::Gone {
            code: "output_dropped",
            detail: "this output was dropped to make room for newer output; raise `output_quota_bytes` on the server to keep more",
        },
        StoreError::Blob(error) if error.is_loss() => ServiceError::Gone {
            code: "output_damaged",
            detail: "what is stored of this output is damaged or missing; the server's log names it, and a backup of the data directory may have it",
        },
        error => error.into(),
    }
}
