//! Signatures of approvers. The server stores and sends them; only the hosts know which keys they trust.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use muster_protocol::commands::capsule::{Capsule, data_sha256};
use muster_protocol::identity::Fingerprint;
use serde_json::Value;

use crate::domain::ids::{AgentId, CommandId};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::commands::approval;

/// Most capsules of one decision.
pub const MAX_CAPSULES: usize = 1_000;

/// Checks that the capsules are about the work, one for each command, so that a person learns of a
/// mistake here and not from each host. Returns them as they are stored.
///
/// # Errors
/// 422 names the capsule.
pub(super) fn check(
    row: &approval::Model,
    (work, hosts): (&[(CommandId, AgentId)], &HashMap<AgentId, Fingerprint>),
    capsules: Vec<Capsule>,
) -> Result<Vec<(CommandId, String)>> {
    if capsules.len() > MAX_CAPSULES {
        let bounds = 0..=MAX_CAPSULES as u64;
        return Err(ServiceError::out_of_range("capsules", capsules.len() as u64, bounds));
    }
    let agents: BTreeMap<CommandId, AgentId> = work.iter().copied().collect();
    let data: Value = serde_json::from_str(&row.data).unwrap_or_default();
    let data_sha256 = data_sha256(&data);
    let mut signed = BTreeSet::new();
    let mut stored = Vec::with_capacity(capsules.len());
    for (n, capsule) in capsules.into_iter().enumerate() {
        let field = format!("capsules[{n}]");
        let invalid = |problem: &str| Err(ServiceError::invalid_field(&field, problem));
        if !capsule.is_bounded() {
            return invalid("is too large");
        }
        let approved = match capsule.read() {
            Ok(approved) => approved,
            Err(error) => return invalid(&format!("is not valid: {error}")),
        };
        if capsule.open(&[approved.approver]).is_err() {
            return invalid("has another signature than its document says");
        }
        let command_id = CommandId(approved.command_id);
        let is_of_work = agents.get(&command_id).is_some_and(|id| id.0 == approved.agent_id);
        let is_same = approved.command == row.command && approved.data_sha256 == data_sha256;
        if !is_of_work || !is_same {
            return invalid("is about other work than this request");
        }
        if hosts.get(&AgentId(approved.agent_id)) != Some(&approved.host) {
            return invalid("is for a host with another key pair");
        }
        if !signed.insert(command_id) {
            return invalid("repeats a command");
        }
        // Plain strings always serialise.
        stored.push((command_id, serde_json::to_string(&capsule).unwrap_or_default()));
    }
    match agents.len() - signed.len() {
        0 => Ok(stored),
        missing => Err(ServiceError::invalid_field(
            "capsules",
            &format!("must have one for each command; {missing} are missing"),
        )),
    }
}
