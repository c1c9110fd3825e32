//! Why the server ended a command by itself.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// Why the server itself ended a command, without a report from its agent.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `expires_at` passed while it was queued.
    ExpiredInQueue,
    /// It was cancelled while it was queued.
    CancelledInQueue,
    /// The agent was offline for longer than `lost_after_ms`.
    AgentAway,
    /// A basic agent did not answer within `timeout_ms` and a minute.
    NoResponse,
    /// The agent reconnected with another ledger, or with an older copy of it.
    LedgerReplaced,
    /// The agent had reported the start, and its inventory does not list the command any more.
    MissingFromInventory,
    /// The agent was deleted on the server.
    AgentDeleted,
    /// The agent's key did not allow it any more when it was about to be sent.
    PermissionRevoked,
    /// The API key that requested it was revoked or had expired when it was about to be sent.
    ApiKeyInvalid,
    /// The limits of the API key that requested it did not allow it any more when it was about to be
    /// sent: the key or the tags of the agent were changed.
    OutsideKeyLimits,
    /// Another person refused the request for its approval.
    ApprovalRefused,
    /// It was not approved in time.
    ApprovalExpired,
    /// Its secret parameters could not be sent to its agent.
    SecretsUndeliverable,
    /// Its agent is a basic one, which takes no standard input.
    StdinUndeliverable,
    /// Its agent is one that runs no steps.
    StepsUndeliverable,
    /// Its agent was offline, and its job skips offline agents.
    SkippedOffline,
    /// The host's manifest did not have the script, and its job skips such hosts.
    SkippedUnknownScript,
    /// The parameters did not match the host's manifest, and its job skips such hosts.
    SkippedInvalidParameters,
    /// The host's policy did not allow ad-hoc commands, and its job skips such hosts.
    SkippedArgvNotAllowed,
    /// The host runs no scripts of the library, and its job skips such hosts.
    SkippedLibraryNotAllowed,
    /// The host's agent transfers no files, and its job skips such hosts.
    SkippedFilesUnsupported,
    /// The agent can't connect any more.
    SkippedKeyDeleted,
    /// The host's agent runs no steps, and its job skips such hosts.
    SkippedStepsUnsupported,
    /// The host does not let the script read standard input, and its job skips such hosts.
    SkippedStdinNotAllowed,
    /// Its rollout was aborted before it was sent.
    AbortedInQueue,
}

impl EndReason {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExpiredInQueue => "expired_in_queue",
            Self::CancelledInQueue => "cancelled_in_queue",
            Self::AgentAway => "agent_away",
            Self::NoResponse => "no_response",
            Self::LedgerReplaced => "ledger_replaced",
            Self::MissingFromInventory => "missing_from_inventory",
            Self::AgentDeleted => "agent_deleted",
            Self::PermissionRevoked => "permission_revoked",
            Self::ApiKeyInvalid => "api_key_invalid",
            Self::OutsideKeyLimits => "outside_key_limits",
            Self::ApprovalRefused => "approval_refused",
            Self::ApprovalExpired => "approval_expired",
            Self::SecretsUndeliverable => "secrets_undeliverable",
            Self::StdinUndeliverable => "stdin_undeliverable",
            Self::StepsUndeliverable => "steps_undeliverable",
            Self::SkippedOffline => "skipped_offline",
            Self::SkippedUnknownScript => "skipped_unknown_script",
            Self::SkippedInvalidParameters => "skipped_invalid_parameters",
            Self::SkippedArgvNotAllowed => "skipped_argv_not_allowed",
            Self::SkippedLibraryNotAllowed => "skipped_library_not_allowed",
            Self::SkippedFilesUnsupported => "skipped_files_unsupported",
            Self::SkippedKeyDeleted => "skipped_key_deleted",
            Self::SkippedStepsUnsupported => "skipped_steps_unsupported",
            Self::SkippedStdinNotAllowed => "skipped_stdin_not_allowed",
            Self::AbortedInQueue => "aborted_in_queue",
        }
    }

    /// A sentence that says what happened and what to do.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ExpiredInQueue => {
                "the agent did not come online before the command expired; it was never sent"
            }
            Self::CancelledInQueue => "the command was cancelled before it was sent",
            Self::AgentAway => {
                "the agent stayed away too long after it was sent the command; whether it ran is unknown until the agent returns"
            }
            Self::NoResponse => {
                "the agent did not answer in time; whether the command ran is unknown"
            }
            Self::LedgerReplaced => {
                "the agent came back with a new or older ledger (reinstalled or restored from a backup?); whether the command ran is unknown"
            }
            Self::MissingFromInventory => {
                "the agent reported the start and no longer knows the command; check the host before running it again"
            }
            Self::AgentDeleted => {
                "the agent was deleted; if it had been sent the command, whether it ran is unknown"
            }
            Self::PermissionRevoked => {
                "the agent's key no longer allows this command; it was never sent"
            }
            Self::ApiKeyInvalid => {
                "the API key that requested it was revoked or has expired; it was never sent"
            }
            Self::OutsideKeyLimits => {
                "the limits of the API key that requested it do not allow it any more, because the key or the agent's tags were changed; it was never sent"
            }
            Self::ApprovalRefused => "another person refused to approve it; it was never sent",
            Self::ApprovalExpired => "it was not approved in time, and was never sent",
            Self::StdinUndeliverable => {
                "its agent is a basic one, which takes no standard input; it was never sent: send it to another agent"
            }
            Self::StepsUndeliverable => {
                "its agent is too old to run steps; it was never sent: update the agent, then send it again"
            }
            Self::SecretsUndeliverable => {
                "its secret parameters can't be opened here, or the agent is now one that can't keep them; it was never sent: send it again"
            }
            Self::SkippedOffline => {
                "the agent was offline, and the job skips such agents; it was never sent"
            }
            Self::SkippedUnknownScript => {
                "the host's manifest does not have the script, and the job skips such hosts; it was never sent"
            }
            Self::SkippedInvalidParameters => {
                "the parameters do not match the host's manifest, and the job skips such hosts; it was never sent"
            }
            Self::SkippedArgvNotAllowed => {
                "the host's policy does not allow ad-hoc commands, and the job skips such hosts; it was never sent"
            }
            Self::SkippedLibraryNotAllowed => {
                "the host's policy or its agent's version does not allow scripts of the library, and the job skips such hosts; it was never sent"
            }
            Self::SkippedKeyDeleted => {
                "the agent's key was deleted, so it was skipped; install the agent again with a new key"
            }
            Self::SkippedFilesUnsupported => {
                "the host's agent is too old to transfer files, and the job skips such hosts; it was never sent"
            }
            Self::SkippedStepsUnsupported => {
                "the host's agent is too old to run steps, and the job skips such hosts; it was never sent"
            }
            Self::SkippedStdinNotAllowed => {
                "the host does not let the script read standard input, and the job skips such hosts; it was never sent"
            }
            Self::AbortedInQueue => "the job was aborted before it was sent",
        }
    }
}
