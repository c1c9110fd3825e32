//! The differences between an execution and what its agent signed.

use muster_protocol::commands::attestation::AttestationError;
use muster_protocol::identity::Fingerprint;
use serde_json::Value;

use crate::error::CliError;

/// Why an execution is not what its agent signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error(
        "the execution is not signed: it has not ended, its agent signs no results, or its attestation was removed"
    )]
    Unsigned,
    #[error("the agent's public key is not known; pass it with --public-key")]
    NoKey,
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    #[error(
        "the attestation was signed with {signed}, and the agent's key pair is {expected}; if the agent was adopted since, \
         pass its former key with --public-key"
    )]
    OtherKey { signed: Fingerprint, expected: Fingerprint },
    #[error("the attestation is of another execution: {0}")]
    OtherExecution(String),
    #[error("the server answered with another execution than the one that you asked for: {0}")]
    NotRequested(String),
    #[error("the attestation is of another agent: {0}")]
    OtherAgent(String),
    #[error("the result was changed: `{field}` is {stored}, and the agent signed {signed}")]
    Changed { field: &'static str, stored: Value, signed: Value },
    #[error(
        "the output is incomplete: {stored} bytes are stored, and the agent signed {signed} bytes"
    )]
    Incomplete { stored: u64, signed: u64 },
    #[error("the output was changed: its SHA-256 is not the one that the agent signed")]
    OutputChanged,
    #[error("the output was changed: bytes of one stream are stored as those of the other")]
    StreamsChanged,
    #[error("{0} bytes of output are stored, and the agent signed that there is none")]
    AddedOutput(u64),
    #[error("the agent signed no hash of the output, so that it can't be checked")]
    UnsignedOutput,
    #[error("the {0} changed: the SHA-256 of what is stored is not the one that the agent signed")]
    RequestChanged(&'static str),
}

impl From<Finding> for CliError {
    fn from(finding: Finding) -> Self {
        Self::Unsuccessful(finding.to_string())
    }
}
