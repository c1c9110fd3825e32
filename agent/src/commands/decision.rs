//! What to make of a command that has arrived. Judges; does nothing.

use std::str::FromStr as _;

use muster_protocol::command::Durability;
use muster_protocol::frame::{Command, Outcome, Response};
use muster_protocol::limits::MAX_COMMAND_DATA_BYTES;
use muster_protocol::manifest::Manifest;
use muster_protocol::manifest_mismatch::ManifestMismatch;
use muster_protocol::release::Version;
use muster_protocol::{CommandName, ExitCode, Permissions};
use serde_json::Value;

use crate::commands::{self, CommandContext, execute};
use crate::executions::ledger::record::{Launch, refusal};
use crate::executions::ledger::{KnownState, NewCommand};
use crate::platform::BootInstant;
use crate::policy::{self, Policy};

/// Room on disk that accepting a command leaves untouched.
pub const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// What follows from a command.
#[derive(Debug)]
pub enum Verdict {
    /// Answered on the spot, never stored.
    Answer(Response),
    /// KnownState already: its state is told again.
    Repeat(KnownState),
    /// Refused, and the refusal is stored.
    Refuse(Response),
    Accept(NewCommand),
    /// Written down for the supervisor, and then the agent's process ends.
    Update(Version),
    /// Stored, answered, and then the agent's process ends.
    End {
        command: CommandName,
        code: ExitCode,
        response: Response,
    },
}

/// What a judgement rests on.
pub struct DecisionInput<'a> {
    pub permissions: &'a Permissions,
    pub manifest: &'a Manifest,
    /// Why a newer list is not in force, if there is one.
    pub manifest_refusal: Option<&'a str>,
    /// Or why there is none: a sentence.
    pub policy: Result<&'a Policy, &'a str>,
    pub context: CommandContext<'a>,
    pub known: KnownState,
    /// `None` if it can't be told; nothing is refused for that.
    pub free_bytes: Option<u64>,
    pub output: execute::OutputLimits,
    /// Why no other version can be had: a stable name and a sentence.
    pub update: Result<(), (&'static str, &'static str)>,
    /// The host is about to leave the fleet and begins nothing.
    pub is_deregistering: bool,
}

/// Judges a command. Permission comes before anything else that could tell of the host.
pub fn decide(command: &Command, input: &DecisionInput<'_>) -> Verdict {
    let id = command.command_id;
    let Ok(name) = CommandName::from_str(&command.command) else {
        let shown: String = command.command.chars().take(64).collect();
        let text = format!("this agent knows no command `{shown}`; update it, or use another");
        // Whether it is durable can't be known; a server of a later version can tell by the outcome.
        return Verdict::Answer(refusal(id, Outcome::Rejected, "unsupported_command", text));
    };
    let is_durable = name.durability() == Durability::Durable;
    if is_durable && input.known != KnownState::Never {
        return Verdict::Repeat(input.known);
    }
    let refuse = |code: &str, text: String| {
        let response = refusal(id, Outcome::Rejected, code, text);
        if is_durable {
            return Verdict::Refuse(response);
        }
        Verdict::Answer(Response { outcome: None, ..response })
    };
    if !input.permissions.allows(name) {
        let text = format!("this agent's key does not allow `{name}`; grant it to the key");
        return refuse("permission_denied", text);
    }
    if let Some(data) = commands::answer(name, &command.data, &input.context) {
        return Verdict::Answer(commands::success(id, data));
    }
    if input.is_deregistering {
        let text = "this host is leaving the fleet; send the command to another one";
        return refuse("host_leaving", text.to_owned());
    }
    let policy = match input.policy {
        Ok(policy) => policy,
        Err(reason) => return refuse("invalid_policy", reason.to_owned()),
    };
    let wanted = match name {
        CommandName::Update => Some(commands::update::requested_version(&command.data)),
        CommandName::Redeploy => Some(commands::update::own_version()),
        _ => None,
    };
    if let Some(wanted) = wanted {
        return match (input.update, wanted) {
            (Err((code, text)), _) => refuse(code, text.to_owned()),
            (Ok(()), Err(text)) => refuse("invalid_data", text),
            (Ok(()), Ok(version)) => Verdict::Update(version),
        };
    }
    if let Some((code, data)) = commands::lifecycle(name) {
        let response =
            Response { outcome: Some(Outcome::Succeeded), ..commands::success(id, data) };
        return Verdict::End { command: name, code, response };
    }
    if input.free_bytes.is_some_and(|free| free < MIN_FREE_BYTES) {
        return refuse("no_space", no_space());
    }
    if serialized_len(&command.data) > MAX_COMMAND_DATA_BYTES {
        let text = format!("the data is larger than {MAX_COMMAND_DATA_BYTES} bytes; send less");
        return refuse("invalid_data", text);
    }
    if let Some(Err(reason)) = policy.run_as.as_deref().map(policy::check_run_as) {
        return refuse("invalid_policy", reason.to_string());
    }
    let allowed = execute::AllowedScripts { manifest: input.manifest, allow: policy.allow };
    match execute::plan(&command.data, allowed, input.output) {
        Ok((launch, parameters)) => Verdict::Accept(NewCommand {
            command_id: id,
            command: name,
            start_by: command.start_within_ms.map(BootInstant::after_ms),
            launch: Some(Launch { run_as: policy.run_as.clone(), ..launch }),
            parameters,
        }),
        Err(reason) => {
            let is_unlisted = matches!(
                reason,
                execute::Refusal::ManifestMismatch(ManifestMismatch::UnknownScript(_))
            );
            let text = match input.manifest_refusal.filter(|_| is_unlisted) {
                Some(refusal) => format!("{reason}; its newest version was refused: {refusal}"),
                None => reason.to_string(),
            };
            refuse(reason.code(), text)
        }
    }
}

/// Says that the disk is too full to accept anything.
pub fn no_space() -> String {
    "the host's disk has less than 64 MiB left for the agent; free some and send it again".into()
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
