//! What agents tell of updates: bounded, cleaned, and kept for people to see.

use muster_protocol::CommandName;
use muster_protocol::release::{UpdateOutcome, UpdateResult};
use serde_json::Value;
use uuid::Uuid;

use super::SessionEnd;
use super::live::Live;
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::store::StoreError;

/// Of a verdict's sentence.
const MAX_MESSAGE_CHARS: usize = 1_024;
/// Of its code, and of versions.
const MAX_WORD_CHARS: usize = 64;

/// A verdict as it is stored.
pub(super) fn stored(verdict: &UpdateResult) -> String {
    let cleaned = UpdateResult {
        command_id: verdict.command_id,
        outcome: verdict.outcome,
        from_version: clean(&verdict.from_version, MAX_WORD_CHARS),
        to_version: clean(&verdict.to_version, MAX_WORD_CHARS),
        code: verdict.code.as_deref().map(|code| clean(code, MAX_WORD_CHARS)),
        message: clean(&verdict.message, MAX_MESSAGE_CHARS),
    };
    // Texts always make JSON.
    serde_json::to_string(&cleaned).unwrap_or_default()
}

/// The verdict that the result of a command is; `None` for the result of another command.
pub(super) fn told(
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

impl Live {
    /// Commits a verdict, before the command that it is of ends by it.
    pub(super) async fn record_verdict(&mut self, verdict: UpdateResult) -> Result<(), SessionEnd> {
        let service = &self.service;
        let tenant = service.store.tenant(self.handle.tenant_id);
        let (agent_id, epoch) = (self.handle.agent_id, self.handle.epoch);
        let now = service.clock.now();
        let record = async {
            let is_verdict = match verdict.command_id {
                // Of a wish of the host's own, which no command has asked for.
                None => true,
                // What an agent answers to anything else is no verdict, whatever it looks like.
                Some(id) => {
                    let asked = [CommandName::Update.as_str(), CommandName::Redeploy.as_str()];
                    tenant.command(CommandId(id)).await?.is_some_and(|found| {
                        found.command.agent_id == agent_id
                            && asked.contains(&found.command.command.as_str())
                    })
                }
            };
            match is_verdict {
                true => tenant.record_update_result(agent_id, epoch, stored(&verdict), now).await,
                false => Ok(()),
            }
        };
        record.await.map_err(|error: StoreError| {
            tracing::warn!(%agent_id, %error, "failed to record what came of an update");
            // What was not committed is not acknowledged: the agent says it again.
            SessionEnd::Closed(muster_protocol::CloseCode::TryAgainLater)
        })
    }
}
