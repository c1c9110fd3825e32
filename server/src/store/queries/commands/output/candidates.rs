//! Which outputs have come to their end, and stand in chunks still.

use sea_orm::{ConnectionTrait as _, DbErr, Statement, TryGetableMany as _};
use uuid::Uuid;

use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::queries::SystemScope;

/// How long a command without its agent's report may still get output: an agent that was called
/// lost and comes back sends the rest.
const UNREPORTED_MS: u64 = 3_600_000;

/// From one command to the next in the small index of what may be compacted, in its very words:
/// one look each, however many chunks a command has. Each row is a command with more than one
/// short chunk, and how it stands.
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

/// A command, when it ended, and itself again if its report is here.
type Walked = (CommandId, Option<Timestamp>, Option<CommandId>);

/// A stretch of a walk over all commands whose output stands in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Those whose output has come to its end, in order.
    pub ids: Vec<CommandId>,
    /// The last one that was looked at, from which the walk goes on; `None` at its end.
    pub walked_to: Option<CommandId>,
    /// When the first of the others comes to its end by time alone, its agent's report or not.
    pub due_at: Option<Timestamp>,
}

impl SystemScope {
    /// Looks at the next commands behind an id whose output stands in chunks, at most `limit`,
    /// running ones included.
    pub async fn to_compact(
        &self,
        behind: Option<CommandId>,
        now: Timestamp,
        limit: u64,
    ) -> Result<Candidates, StoreError> {
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
        let mut found = Candidates { ids: Vec::new(), walked_to, due_at: None };
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
