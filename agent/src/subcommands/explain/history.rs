//! What the server asked for lately, with the result of what was accepted.

use muster_protocol::escape::for_terminal;
use muster_protocol::frame::{Outcome, Response};
use serde::Serialize;

use super::InspectError;
use crate::agent::request_log::{self, Answer, RequestRecord};
use crate::executions::ledger::read_settlement;
use crate::executions::ledger::record::Settlement;
use crate::storage;
use crate::storage::layout::StateDir;

/// A request of the server.
#[derive(Debug, Serialize)]
pub struct RequestEntry {
    #[serde(flatten)]
    pub record: RequestRecord,
    /// How an accepted command ended; absent while it runs, and after its record was deleted.
    pub outcome: Option<Outcome>,
    /// The code and the reason of one that did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Why an accepted command did not succeed.
#[derive(Debug, Serialize)]
pub struct Failure {
    pub code: Option<String>,
    pub reason: Option<String>,
}

/// The newest requests, newest first.
pub(super) fn read(state: &StateDir, count: usize) -> Result<Vec<RequestEntry>, InspectError> {
    let records = request_log::read_newest(state, count);
    let records = records.map_err(InspectError::of(&state.requests()[0]))?;
    let entry = |record: RequestRecord| {
        let response = response(state, &record);
        // A refusal is in the record itself.
        let is_accepted = record.answer == Answer::Accepted;
        let failed = response.as_ref().filter(|response| is_accepted && !response.success);
        let failure = failed.map(|response| Failure {
            code: response.error_code.clone(),
            reason: response.error.as_deref().map(for_terminal),
        });
        RequestEntry { record, outcome: response.and_then(|response| response.outcome), failure }
    };
    Ok(records.into_iter().map(entry).collect())
}

fn response(state: &StateDir, record: &RequestRecord) -> Option<Response> {
    let command_id = record.command_id?;
    let archived = || storage::read_whole::<Settlement>(&state.settled_record(command_id));
    let settlement = match read_settlement(&state.execution(command_id)) {
        Ok(None) => archived(),
        read => read,
    };
    Some(settlement.ok()??.response(command_id))
}
