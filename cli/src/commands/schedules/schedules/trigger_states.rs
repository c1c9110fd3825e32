//! `muster schedules trigger-states`

use crate::error::CliError;
use crate::listing::{Limit, List};
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 9] = [
    Column::of("AGENT", "agent_name"),
    Column::of("CALLS", "call_count"),
    Column::of("LAST CALL", "last_call_at"),
    Column::of("STATE", "last_state"),
    Column::of("OUTCOME", "last_outcome"),
    Column::of("ACTIVE", "is_active"),
    Column::of("FIRST", "is_first_call"),
    Column::of("VERSION", "data_version"),
    Column::by("DATA", |state| state["data"].to_string()),
];

/// Lists what a schedule keeps for each agent.
///
/// # Errors
/// [`CliError`].
pub async fn show(session: &Session, id: &str, limit: Limit) -> Result<u8, CliError> {
    let list = List {
        segments: &["schedules", id, "trigger-states"],
        filters: &[],
        limit,
        columns: &COLUMNS,
        empty: "No call yet, or the schedule's script has no trigger.",
    };
    list.show(session).await
}
