//! Whether an approver has signed a command that needs it by the policy of this host. Pure.

use muster_protocol::CommandName;
use muster_protocol::commands::capsule::ApprovedCommand;
use muster_protocol::frame::Command;
use muster_protocol::identity::Fingerprint;
use serde_json::Value;
use uuid::Uuid;

use crate::executions::ledger::record::Launch;
use crate::policy::Policy;

/// A stable code and a sentence.
type Refusal = (&'static str, String);

/// What a capsule is compared with, beside its command.
pub struct HostFacts {
    pub agent_id: Uuid,
    /// Of its key pair.
    pub fingerprint: Fingerprint,
    /// The host's clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The capsule of the command was used before.
    pub is_capsule_used: bool,
    /// Capsules that expire until then may have been used: their ids are forgotten.
    pub forgotten_until_ms: u64,
}

/// Checks the capsule of a command. `None` if the policy asks for none.
///
/// # Errors
/// `capsule_required`, `capsule_used` or `capsule_invalid`, with a sentence that says what to do.
pub fn check(
    name: CommandName,
    command: &Command,
    policy: &Policy,
    host: &HostFacts,
) -> Result<Option<ApprovedCommand>, Refusal> {
    let Some(needed) = &policy.needs_approval else { return Ok(None) };
    if !needed.concerns(name, &command.data) {
        return Ok(None);
    }
    let has_secrets = command.data.get("secret_parameters").is_some_and(|secrets| match secrets {
        Value::Object(secrets) => !secrets.is_empty(),
        Value::Null => false,
        _ => true,
    });
    if has_secrets {
        let text = "the policy of this host asks for a signed approval, and an approver can't see secret parameters; send it without them";
        return Err(("capsule_invalid", text.into()));
    }
    let Some(capsule) = &command.capsule else {
        let text = "the policy of this host asks for the signature of one of its approvers; let a rule of approval hold the work, and approve it with `muster approvals approve ID --sign KEYFILE`";
        return Err(("capsule_required", text.into()));
    };
    if host.is_capsule_used {
        let text = "the signed approval of this command was used before; submit the work again";
        return Err(("capsule_used", text.into()));
    }
    let ids = (command.command_id, host.agent_id, host.fingerprint);
    let now_ms = host.now_ms.max(host.forgotten_until_ms);
    let approved = capsule.open(&needed.approvers).and_then(|approved| {
        approved.check(ids, name.as_str(), &command.data, now_ms)?;
        Ok(approved)
    });
    approved.map(Some).map_err(|error| {
        ("capsule_invalid", format!("this host does not accept the signed approval: {error}"))
    })
}

/// Makes the run start exactly the files that the approver signed, which the shim compares.
///
/// # Errors
/// `capsule_invalid` if the approval is for another file than the manifest requires, or names none.
pub fn pin_program(launch: Launch, approved: Option<&ApprovedCommand>) -> Result<Launch, Refusal> {
    let Some(approved) = approved else { return Ok(launch) };
    if launch.steps.is_empty() {
        return pin_file(launch, approved.program_sha256.as_ref());
    }
    let signed = &approved.step_programs_sha256;
    if signed.len() != launch.steps.len() {
        let text = "the signed approval does not name the hash of the file of each step";
        return Err(("capsule_invalid", text.into()));
    }
    let mut launch = launch;
    for (step, signed) in launch.steps.iter_mut().zip(signed) {
        step.launch = pin_file(step.launch.clone(), signed.as_ref())?;
    }
    Ok(launch)
}

fn pin_file(launch: Launch, signed: Option<&String>) -> Result<Launch, Refusal> {
    // Of a transfer, the signed data has all that matters.
    if launch.script.is_none() || launch.file.is_some() || launch.is_probe {
        return Ok(launch);
    }
    let Some(signed) = signed else {
        let text = "the signed approval of this script does not name the hash of its file";
        return Err(("capsule_invalid", text.into()));
    };
    if launch.sha256.as_ref().is_some_and(|required| !required.eq_ignore_ascii_case(signed)) {
        let text = "the signed approval is for another file than this host's manifest requires";
        return Err(("capsule_invalid", text.into()));
    }
    Ok(Launch { sha256: Some(signed.clone()), ..launch })
}

/// True if the policy asks for a capsule, which is then used up.
pub fn is_needed(policy: Result<&Policy, &str>, command: &Command) -> bool {
    let needed = policy.ok().and_then(|policy| policy.needs_approval.as_ref());
    needed
        .zip(command.command.parse().ok())
        .is_some_and(|(needed, name)| needed.concerns(name, &command.data))
}
