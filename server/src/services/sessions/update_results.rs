//! Results of updates that agents report: cleaned, truncated and stored.

use muster_protocol::CommandName;
use muster_protocol::release::{UpdateOutcome, UpdateResult};
use serde_json::Value;
use uuid::Uuid;

use super::SessionEnd;
use super::live::LiveSession;
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::store::StoreError;

/// Longest message of a result.
const MAX_MESSAGE_CHARS: usize = 1_024;
/// Longest code and version.
const MAX_WORD_CHARS: usize = 64;

/// The stored form of a result, as JSON.
pub(super) fn to_stored(result: &UpdateResult) -> String {
    let cleaned = UpdateResult {
        command_id: result.command_id,
        outcome: result.outcome,
        from_version: clean(&result.from_version, MAX_WORD_CHARS),
        to_version: clean(&result.to_version, MAX_WORD_CHARS),
        code: result.code.as_deref().map(|code| clean(code, MAX_WORD_CHARS)),
        message: clean(&result.message, MAX_MESSAGE_CHARS),
    };
    // A struct of strings always serializes.
    serde_json::to_string(&cleaned).unwrap_or_default()
}

/// The update result within the response to a command; `None` for other commands.
pub(super) fn from_response(
    command_id: Uuid,
    data: &Value,
    error_code: Option<&str>,
) -> Option<UpdateResult> {
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    let outcome: UpdateOutcome = serde_json::from_value(data.get("update_result")?.clone()).ok()?;
    Some(UpdateResult {
        command_id: Some(command_id),
        outcome,
        from_version: text("from_version")?,
        to_version: text("to_version")?,
        code: error_code.map(str::to_owned),
        message: text("message")?,
    })
}

impl LiveSession {
    /// Commits an update result, before the command ends.
    pub(super) async fn record_update_result(
        &mut self,
        result: UpdateResult,
    ) -> Result<(), SessionEnd> {
        let service = &self.service;
        let tenant = service.store.tenant(self.handle.tenant_id);
        let (agent_id, epoch) = (self.handle.agent_id, self.handle.epoch);
        let now = service.clock.now();
        let record = async {
            let is_update = match result.command_id {
                // The host's owner requested the update, so there is no command.
                None => true,
                // A response to any other command is not an update result, even if it has such
                // fields.
                Some(id) => {
                    let names = [CommandName::Update.as_str(), CommandName::Redeploy.as_str()];
                    tenant.command(CommandId(id)).await?.is_some_and(|found| {
                        found.command.agent_id == agent_id
                            && names.contains(&found.command.command.as_str())
                    })
                }
            };
            match is_update {
                true => tenant.record_update_result(agent_id, epoch, to_stored(&result), now).await,
                false => Ok(()),
            }
        };
        record.await.map_err(|error: StoreError| {
            tracing::warn!(%agent_id, %error, "failed to record the result of an update");
            // The agent sends again what was not acknowledged.
            SessionEnd::Closed(muster_protocol::CloseCode::TryAgainLater)
        })
    }
}
