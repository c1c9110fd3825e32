//! Finds text in a committed output, and when its parts were received.

use muster_protocol::frame::output::{Stream, records_of};

use super::read::{Output, output_error, require_output};
use crate::domain::access::principal::Scope;
use crate::domain::commands::output_search::{Hit, LineSearch};
use crate::domain::commands::received::Mark;
use crate::domain::ids::CommandId;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::blobs::BlobError;
use crate::store::entities::commands::output_chunk;
use crate::store::queries::{OutputStream, TenantScope};

/// Output that one request searches, in bytes.
const MAX_SEARCHED_BYTES: u64 = 8 * 1024 * 1024;
/// Chunks of one read, each at most 256 KiB.
const CHUNKS: u64 = 4;
/// Times of one response.
const MAX_TIMES: usize = 1_000;

/// What to search.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    pub text: String,
    pub stream: OutputStream,
    /// Where to start in stdout and in stderr. Offsets count both streams.
    pub from_bytes: [u64; 2],
    /// Where to stop.
    pub to_bytes: u64,
    /// Most hits.
    pub limit: usize,
}

/// The hits of one request.
#[derive(Debug)]
pub struct SearchResult {
    pub hits: Vec<Hit>,
    /// Where the next request continues; `None` if all that is stored was searched.
    pub next_bytes: Option<[u64; 2]>,
}

impl Output {
    /// Searches at most [`MAX_SEARCHED_BYTES`] of an execution's output.
    ///
    /// # Errors
    /// `not_found` for a command that is no execution; [`ServiceError::Gone`] if the output is lost.
    pub async fn search(
        &self,
        caller: &Caller,
        id: CommandId,
        request: SearchRequest,
    ) -> Result<SearchResult> {
        let tenant = self.execution(caller, id).await?;
        let mut search = LineSearch::new(&request.text, request.limit);
        let start_bytes = request.from_bytes[0].min(request.from_bytes[1]);
        let mut next_bytes = start_bytes;
        loop {
            let from = (next_bytes, None);
            let chunks = tenant.output_chunks(id, OutputStream::Both, from, CHUNKS).await;
            let chunks = chunks.map_err(output_error)?;
            let Some(last) = chunks.last() else { break };
            next_bytes = (last.offset_bytes + last.length_bytes).cast_unsigned();
            let wanted = request.clone();
            // Searching takes longer than a thread of the runtime should be busy.
            let searched = tokio::task::spawn_blocking(move || {
                chunks.iter().for_each(|chunk| push(&mut search, chunk, &wanted));
                search
            });
            search = searched.await.map_err(|_| StoreError::from(BlobError::Stopped))?;
            if next_bytes >= request.to_bytes && !search.is_full() {
                break;
            }
            if search.is_full() || next_bytes - start_bytes >= MAX_SEARCHED_BYTES {
                let (hits, next_bytes) = search.pause(next_bytes);
                return Ok(SearchResult { hits, next_bytes: Some(next_bytes) });
            }
        }
        let (hits, next_bytes) = search.finish();
        Ok(SearchResult { hits, next_bytes })
    }

    /// When an execution's output from an offset on was received: marks in order, and the offset from
    /// which to read more of them, if there are more.
    ///
    /// # Errors
    /// As [`Output::search`].
    pub async fn received(
        &self,
        caller: &Caller,
        id: CommandId,
        from_bytes: u64,
    ) -> Result<(Vec<Mark>, Option<u64>)> {
        let tenant = self.execution(caller, id).await?;
        tenant.output_received(id, from_bytes, MAX_TIMES).await.map_err(output_error)
    }

    /// The tenant of an execution whose output the caller may see.
    async fn execution(&self, caller: &Caller, id: CommandId) -> Result<TenantScope> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let found = tenant.command(id).await?.map(|found| found.command);
        let command = found.filter(|command| command.command == "execute");
        require_output(caller, &command.ok_or(ServiceError::NotFound("execution"))?)?;
        Ok(tenant)
    }
}

/// Gives the wanted bytes of a chunk to the search.
fn push(search: &mut LineSearch, chunk: &output_chunk::Model, request: &SearchRequest) {
    let mut offset = chunk.offset_bytes.cast_unsigned();
    // Records were validated before they were stored.
    for record in records_of(&chunk.records).flatten() {
        let end = offset + record.payload.len() as u64;
        let (from, is_wanted) = match record.stream {
            Stream::Stdout => (request.from_bytes[0], request.stream != OutputStream::Stderr),
            Stream::Stderr => (request.from_bytes[1], request.stream != OutputStream::Stdout),
        };
        let (from, to) = (from.max(offset), request.to_bytes.min(end));
        if is_wanted && from < to {
            let part = usize::try_from(from - offset).unwrap_or(0)
                ..usize::try_from(to - offset).unwrap_or(0);
            search.push(record.stream, from, record.payload.get(part).unwrap_or_default());
        }
        offset = end;
    }
}
