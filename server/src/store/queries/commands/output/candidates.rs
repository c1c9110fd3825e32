//! Finds output that is complete and still stored in chunks.

use sea_orm::{ConnectionTrait as _, DbErr, Statement, TryGetableMany as _};
use uuid::Uuid;

use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::queries::SystemScope;

/// How long a command without a report may still receive output: an agent that was considered lost
/// may reconnect and send the rest.
const UNREPORTED_MS: u64 = 3_600_000;

/// Steps from one command to the next in the partial index of chunks that may be compacted, with
/// the same condition as the index. It takes one lookup for each command, however many chunks the
/// command has. Each row is a command with several chunks or a long one, when it ended, and whether
/// its report is stored.
const WALK: &str = "\
    WITH RECURSIVE walked (id, place) AS ( \
        SELECT (SELECT command_id FROM output_chunks \
                WHERE (offset_bytes > 0 OR length_bytes > 4096) AND command_id > $1 \
                ORDER BY command_id LIMIT 1), 1 \
        UNION ALL \
        SELECT (SELECT command_id FROM output_chunks \
                WHERE (offset_bytes > 0 OR length_bytes > 4096) AND command_id > walked.id \
                ORDER BY command_id LIMIT 1), walked.place + 1 \
        FROM walked WHERE walked.id IS NOT NULL AND walked.place < $2 \
    ) \
    SELECT walked.id, commands.finished_at, command_reports.command_id FROM walked \
    LEFT JOIN commands ON commands.id = walked.id \
    LEFT JOIN command_reports ON command_reports.command_id = walked.id \
    WHERE walked.id IS NOT NULL";

/// A command, when it ended, and its id again if its report is stored.
type Walked = (CommandId, Option<Timestamp>, Option<CommandId>);

/// The result of one step of the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionCandidates {
    /// Commands whose output is complete, in order.
    pub ids: Vec<CommandId>,
    /// The last command that was read, from which the next step continues; `None` at the end.
    pub walked_to: Option<CommandId>,
    /// When the output of the first other command is complete even without a report.
    pub due_at: Option<Timestamp>,
}

impl SystemScope {
    /// Reads the next commands after `behind` that have chunks to compact, at most `limit`, running
    /// commands included.
    pub async fn to_compact(
        &self,
        behind: Option<CommandId>,
        now: Timestamp,
        limit: u64,
    ) -> Result<CompactionCandidates, StoreError> {
        let behind = behind.unwrap_or(CommandId(Uuid::nil()));
        let values = [behind.into(), limit.cast_signed().into()];
        let backend = self.reader.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, WALK, values);
        let mut walked = Vec::new();
        for row in self.reader.query_all_raw(statement).await? {
            walked.push(Walked::try_get_many_by_index(&row).map_err(DbErr::from)?);
        }
        walked.sort_unstable_by_key(|(id, ..)| *id);
        let is_cut = walked.len() as u64 == limit;
        let walked_to = walked.last().map(|(id, ..)| *id).filter(|_| is_cut);
        let mut found = CompactionCandidates { ids: Vec::new(), walked_to, due_at: None };
        for (id, finished_at, report) in walked {
            let Some(finished_at) = finished_at else { continue };
            let over_at = match report {
                Some(_) => finished_at,
                None => finished_at.plus_ms(UNREPORTED_MS + 1),
            };
            if report.is_some() || over_at <= now {
                found.ids.push(id);
            } else {
                found.due_at = Some(found.due_at.map_or(over_at, |due_at| due_at.min(over_at)));
            }
        }
        Ok(found)
    }
}
