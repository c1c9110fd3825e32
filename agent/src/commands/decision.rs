//! Decides what to do with a command that has arrived. Has no side effects.

use std::str::FromStr as _;

use muster_protocol::commands::command::Durability;
use muster_protocol::frame::{Command, Outcome, Response};
use muster_protocol::identity::Fingerprint;
use muster_protocol::limits::MAX_COMMAND_DATA_BYTES;
use muster_protocol::manifest::{Manifest, ManifestMismatch};
use muster_protocol::program::request_id::is_request_id;
use muster_protocol::program::version;
use muster_protocol::release::Version;
use muster_protocol::{CommandName, ExitCode, Permissions};
use serde::Deserialize;
use serde_json::Value;

use crate::commands::planned::{HostRules, Planned};
use crate::commands::{self, CommandContext, approval, execute, plan};
use crate::executions::ledger::record::{Launch, refusal};
use crate::executions::ledger::{KnownState, NewCommand};
use crate::platform::BootInstant;
use crate::policy::minimum_versions::MinimumVersions;
use crate::policy::{self, Policy};

/// Free disk space that must remain after a command is accepted.
pub const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// What to do with a command.
#[derive(Debug)]
pub enum CommandDecision {
    /// Answer at once; nothing is stored.
    Answer(Response),
    /// The command is already known: report its state again.
    Repeat(KnownState),
    /// Refuse it and store the refusal.
    Refuse(Response),
    Accept(Box<NewCommand>),
    /// Write an update request for the supervisor, then end the agent's process.
    Update {
        version: Version,
        reinstall: bool,
    },
    /// Store and send the answer, then end the agent's process.
    End {
        command: CommandName,
        code: ExitCode,
        response: Response,
    },
}

/// Everything that a decision depends on.
pub struct DecisionInput<'a> {
    pub permissions: &'a Permissions,
    pub manifest: &'a Manifest,
    /// Why a newer manifest is not in force, if there is one.
    pub manifest_refusal: Option<&'a str>,
    /// The policy, or a sentence that explains why there is none.
    pub policy: Result<&'a Policy, &'a str>,
    pub context: CommandContext<'a>,
    pub known: KnownState,
    /// The host holds as many commands as it may.
    pub is_full: bool,
    /// `None` if it can't be read; nothing is refused for that.
    pub free_bytes: Option<u64>,
    pub output: execute::OutputLimits,
    /// If no update is possible: a stable code and a sentence.
    pub update: Result<(), (&'static str, &'static str)>,
    /// The host's clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The capsule of this command was used before.
    pub is_capsule_used: bool,
    pub minimum_versions: &'a MinimumVersions,
    /// Capsules that expire until then may have been used.
    pub forgotten_until_ms: u64,
    /// The host's own.
    pub fingerprint: Fingerprint,
    /// The host is being deregistered and starts nothing.
    pub is_deregistering: bool,
}

/// Decides about a command. Permission is checked before anything that could reveal details of the
/// host.
pub fn decide(command: &Command, input: &DecisionInput<'_>) -> CommandDecision {
    let id = command.command_id;
    let Ok(name) = CommandName::from_str(&command.command) else {
        let shown: String = command.command.chars().take(64).collect();
        let text = format!(
            "this agent does not know the command `{shown}`; update the agent or use another command"
        );
        // The agent can't know whether the command is durable; a server of a later version
        // recognises the refusal by its outcome.
        return CommandDecision::Answer(refusal(
            id,
            Outcome::Rejected,
            "unsupported_command",
            text,
        ));
    };
    let is_durable = name.durability() == Durability::Durable;
    if is_durable && input.known != KnownState::Never {
        return CommandDecision::Repeat(input.known);
    }
    let refuse = |code: &str, text: String| {
        let response = refusal(id, Outcome::Rejected, code, text);
        if is_durable {
            return CommandDecision::Refuse(response);
        }
        CommandDecision::Answer(Response { outcome: None, ..response })
    };
    if !input.permissions.allows(name) {
        let text = format!(
            "this agent's key does not permit `{name}`; permit it with `muster keys set KEY --add-permission {name}`"
        );
        return refuse("permission_denied", text);
    }
    if let Some(data) = commands::answer(name, &command.data, &input.context) {
        return CommandDecision::Answer(commands::success(id, data));
    }
    if input.is_deregistering {
        let text = "this host is being deregistered; send the command to another host";
        return refuse("host_leaving", text.to_owned());
    }
    if input.is_full {
        let text = "this host has too many commands that have not ended or whose results the server has not acknowledged; send the command again later";
        // Not stored, so that refusals take no space: the command was never accepted, and nothing
        // has to be remembered if it arrives again.
        let response = refusal(id, Outcome::Rejected, "too_many_commands", text.to_owned());
        return CommandDecision::Answer(response);
    }
    let policy = match input.policy {
        Ok(policy) => policy,
        Err(reason) => return refuse("invalid_policy", reason.to_owned()),
    };
    if policy.forbids(name) {
        let text = format!(
            "the policy of this host forbids `{name}`; remove it from `forbid` in policy.json on the host, or do it on the host"
        );
        return refuse("forbidden_by_policy", text);
    }
    let host = approval::HostFacts {
        agent_id: input.context.agent_id.unwrap_or_default(),
        now_ms: input.now_ms,
        is_capsule_used: input.is_capsule_used,
        forgotten_until_ms: input.forgotten_until_ms,
        fingerprint: input.fingerprint,
    };
    let approved = match approval::check(name, command, policy, &host) {
        Ok(approved) => approved,
        Err((code, text)) => return refuse(code, text),
    };
    let wanted = match name {
        CommandName::Update => Some(requested_version(&command.data)),
        CommandName::Redeploy => Some(own_version()),
        _ => None,
    };
    if let Some(wanted) = wanted {
        return match (input.update, wanted) {
            (Err((code, text)), _) => refuse(code, text.to_owned()),
            (Ok(()), Err(text)) => refuse("invalid_data", text),
            (Ok(()), Ok(version)) => {
                CommandDecision::Update { version, reinstall: name == CommandName::Redeploy }
            }
        };
    }
    if let Some((code, data)) = commands::lifecycle(name) {
        let response =
            Response { outcome: Some(Outcome::Succeeded), ..commands::success(id, data) };
        return CommandDecision::End { command: name, code, response };
    }
    if input.free_bytes.is_some_and(|free| free < MIN_FREE_BYTES) {
        return refuse("no_space", no_space());
    }
    if serialized_len(&command.data) > MAX_COMMAND_DATA_BYTES {
        let text = format!(
            "the command's data is larger than {MAX_COMMAND_DATA_BYTES} bytes; send less data"
        );
        return refuse("invalid_data", text);
    }
    if let Some(Err(reason)) = policy.run_as.as_deref().map(policy::check_run_as) {
        return refuse("invalid_policy", reason.to_string());
    }
    let rules = HostRules {
        manifest: input.manifest,
        policy,
        minimum_versions: input.minimum_versions,
        output: input.output,
        now_ms: input.now_ms,
    };
    match plan::plan(command, rules) {
        Ok(Planned { launch, parameters, files, minimums }) => {
            match approval::pin_program(launch, approved.as_ref()) {
                Ok(launch) => CommandDecision::Accept(Box::new(NewCommand {
                    files,
                    minimums,
                    request_id: request_id(command).map(str::to_owned),
                    task: None,
                    command_id: id,
                    command: name,
                    start_by: command.start_within_ms.map(BootInstant::after_ms),
                    launch: Some(Launch { run_as: policy.run_as.clone(), ..launch }),
                    parameters,
                })),
                Err((code, text)) => refuse(code, text),
            }
        }
        Err(reason) => {
            let is_unlisted = matches!(
                reason.of_any_step(),
                execute::ExecuteRefusal::ManifestMismatch(ManifestMismatch::UnknownScript(_))
            );
            let text = match input.manifest_refusal.filter(|_| is_unlisted) {
                Some(refusal) => format!("{reason}; the newest manifest was rejected: {refusal}"),
                None => reason.to_string(),
            };
            refuse(reason.code(), text)
        }
    }
}

/// The id of the request that asked for the command, if it is one: it is written to the log.
pub fn request_id(command: &Command) -> Option<&str> {
    command.request_id.as_deref().filter(|id| is_request_id(id))
}

/// The message for a disk that is too full to accept a command.
pub fn no_space() -> String {
    "the host's disk has less than 64 MiB of free space; free some space and send the command again"
        .into()
}

fn serialized_len(data: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    let _ = serde_json::to_writer(&mut counter, data);
    counter.0
}

/// The data of `update`. Unknown fields are ignored: they are for later agents.
#[derive(Deserialize)]
struct UpdateData {
    version: Version,
}

/// The version that an `update` requests, or a sentence that explains what is wrong with it.
fn requested_version(data: &Value) -> Result<Version, String> {
    let request = UpdateData::deserialize(data).map_err(|error| {
        format!("the data of `update` is invalid: {error}; send `version`, such as 0.2.0")
    })?;
    Ok(request.version)
}

/// The version that a `redeploy` requests: the running one.
fn own_version() -> Result<Version, String> {
    version::own().parse().map_err(|_| "this agent does not know its own version".to_owned())
}
