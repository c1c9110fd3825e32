//! `execute` of a script of the server's library: the host runs it only if its policy allows that, the
//! content is exactly what the command pins, and a publisher has signed it where the host asks for one.

use std::collections::BTreeSet;

use muster_protocol::frame::Command;
use muster_protocol::identity::AgentPublicKey;
use muster_protocol::library::{
    ContentError, LIBRARY_PREFIX, LibraryReference, MAX_SCRIPT_BYTES, ScriptContent,
    ScriptDocument, ScriptParameter, ScriptPin, TriggerCall, check_call_data, find_valid,
    installed_text,
};
use muster_protocol::manifest::ManifestMismatch;
use muster_protocol::parameter;
use serde::Deserialize;
use serde_json::Value;

use super::execute::{ExecuteData, ExecuteRefusal, OutputLimits, names, request_of};
use super::library_refusal::LibraryRefusal;
use super::planned::HostRules;
use crate::executions::ledger::record::{Launch, LibraryLaunch, ParameterRecord};
use crate::executions::library_cache::LibraryFile;
use crate::policy::{Allow, Policy};

/// What the host knows beside the command.
pub struct LibraryRules<'a> {
    pub policy: &'a Policy,
    /// The oldest version that may run, by the name of the script.
    pub minimum_version: &'a dyn Fn(&str) -> u32,
    /// The host's clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A script of the library that may run.
#[derive(Debug)]
pub struct PlannedLibrary {
    pub launch: Launch,
    pub parameters: ParameterRecord,
    pub file: LibraryFile,
    /// What the publisher's statement makes the oldest version: name and number.
    pub minimum: Option<(String, u32)>,
}

/// True if a command is for a script of the library, valid or not.
pub fn is_requested(data: &Value) -> bool {
    data.get("script").and_then(Value::as_str).is_some_and(|name| name.starts_with(LIBRARY_PREFIX))
}

/// Checks a request against what the host permits.
///
/// # Errors
/// [`ExecuteRefusal`] with a message that says what to do.
pub fn plan(
    command: &Command,
    rules: &LibraryRules<'_>,
    bounds: OutputLimits,
) -> Result<PlannedLibrary, ExecuteRefusal> {
    let request = request_of(&command.data)?;
    let ExecuteData { script: Some(script), argv: None, .. } = &request else {
        return Err(ExecuteRefusal::Ambiguous);
    };
    if rules.policy.allow == Allow::Manifest {
        return Err(ManifestMismatch::LibraryNotAllowed.into());
    }
    let unknown = || ManifestMismatch::unknown_script(script);
    let reference = LibraryReference::parse(script).ok_or_else(unknown)?;
    let missing = || LibraryRefusal::from(ContentError::Missing(reference.name.clone()));
    let content = command.content.as_deref().ok_or_else(missing)?;
    if request.stdin.is_some() {
        return Err(ManifestMismatch::LibraryStdin.into());
    }
    let pin = command.data.get("library").map(ScriptPin::deserialize).transpose();
    let pin = pin.map_err(ExecuteRefusal::Malformed)?.ok_or_else(missing)?;
    let document = content.open(&reference.name, &pin).map_err(LibraryRefusal::from)?;
    let minimum = match &rules.policy.publishers {
        Some(publishers) => Some(check_publisher(content, &document, publishers, rules)?),
        None => None,
    };
    let is_rehearsal = request.rehearsal;
    let (asked, open, secrets) =
        (request.timeout_ms, request.parameters, request.secret_parameters);
    document.check_values(&open, &secrets).map_err(ManifestMismatch::from)?;
    let given: BTreeSet<String> = names(&open, &secrets).collect();
    let (open, secrets) =
        parameter::resolve(open, secrets, &document.accepted()).map_err(ManifestMismatch::from)?;
    let defaults = names(&open, &secrets).filter(|name| !given.contains(name)).collect();
    let file_parameters = ScriptParameter::files_among(&document.parameters, &open);
    let name = format!("{}{}", pin.sha256, ending(&document.interpreter));
    let is_shared = rules.policy.run_as.is_some();
    let timeout_ms = match (asked, document.timeout_ms) {
        (Some(asked), Some(most)) => asked.min(most),
        (asked, most) => asked.or(most).unwrap_or(muster_protocol::limits::DEFAULT_TIMEOUT_MS),
    };
    let call = match document.has_trigger {
        true => Some(call_of(command)?),
        false => None,
    };
    // Installers read only what was checked, and never the text itself.
    let requirements = document.requirements.as_deref();
    let requirements = requirements.map(|text| installed_text(&document.interpreter, text));
    let requirements = requirements.transpose();
    let requirements = requirements.map_err(|problem| {
        LibraryRefusal::from(ContentError::Unreadable(format!("`requirements` {problem}")))
    })?;
    let launch = Launch {
        path: name.clone(),
        interpreter: Some(document.interpreter),
        sha256: Some(pin.sha256),
        script: Some(reference.full_name()),
        library: Some(LibraryLaunch { version: document.version }),
        call,
        requirements,
        is_rehearsal,
        file_parameters,
        timeout_ms,
        ..Launch::empty(rules.policy.allow, bounds)
    };
    Ok(PlannedLibrary {
        launch,
        parameters: ParameterRecord {
            parameters: open,
            secret_parameters: secrets,
            defaults,
            ..ParameterRecord::default()
        },
        file: LibraryFile { name, body: content.body.clone(), is_shared },
        minimum,
    })
}

/// Checks an assigned script as far as its document and its signatures go: before its body is there.
///
/// # Errors
/// [`ExecuteRefusal`].
pub fn check_assigned(
    command: &Command,
    rules: HostRules<'_>,
    body_bytes: u64,
) -> Result<(), ExecuteRefusal> {
    let script = command.data.get("script").and_then(Value::as_str).unwrap_or_default();
    let reference = LibraryReference::parse(script);
    let reference = reference.ok_or_else(|| ManifestMismatch::unknown_script(script))?;
    let missing = || LibraryRefusal::from(ContentError::Missing(reference.name.clone()));
    let pin = command.data.get("library").map(ScriptPin::deserialize).transpose();
    let pin = pin.map_err(ExecuteRefusal::Malformed)?.ok_or_else(missing)?;
    let content = command.content.as_deref().ok_or_else(missing)?;
    let document = ScriptDocument::open(&content.document, &reference.name, &pin);
    let document = document.map_err(LibraryRefusal::from)?;
    if body_bytes > MAX_SCRIPT_BYTES as u64 {
        return Err(LibraryRefusal::from(ContentError::Hash).into());
    }
    if let Some(publishers) = &rules.policy.publishers {
        let minimum_version = |name: &str| rules.minimum_versions.of(name);
        let (policy, now_ms) = (rules.policy, rules.now_ms);
        let rules = LibraryRules { policy, minimum_version: &minimum_version, now_ms };
        check_publisher(content, &document, publishers, &rules)?;
    }
    Ok(())
}

/// What the call of a script with a trigger starts from.
fn call_of(command: &Command) -> Result<TriggerCall, LibraryRefusal> {
    let Some(call) = command.call.as_deref() else { return Ok(TriggerCall::without_schedule()) };
    match check_call_data(call.data.as_bytes()) {
        Ok(_) => Ok(call.clone()),
        Err(problem) => Err(ContentError::Unreadable(problem.to_string()).into()),
    }
}

/// Finds the statement of a publisher, and what it makes the oldest version.
fn check_publisher(
    content: &ScriptContent,
    document: &ScriptDocument,
    publishers: &[AgentPublicKey],
    rules: &LibraryRules<'_>,
) -> Result<(String, u32), LibraryRefusal> {
    let signatures = &content.signatures;
    let signed = find_valid(signatures, publishers, document, &content.document, rules.now_ms)?;
    let minimum = (rules.minimum_version)(&document.name);
    if document.version < minimum {
        return Err(LibraryRefusal::Outdated { name: document.name.clone(), minimum });
    }
    // A statement about a version can't make that version itself too old.
    Ok((document.name.clone(), signed.minimum_version.min(document.version)))
}

/// Some interpreters ask for the ending of a file's name.
fn ending(interpreter: &str) -> &'static str {
    match interpreter {
        "sh" | "bash" => ".sh",
        "python" => ".py",
        "node" => ".js",
        "powershell" => ".ps1",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::identity::AgentKeyPair;
    use muster_protocol::library::{
        DOCUMENT_FORMAT, STATEMENT_FORMAT, ScriptParameter, ScriptSignature, SignedScript,
        sha256_hex,
    };
    use serde_json::json;
    use uuid::Uuid;

    const NOW_MS: u64 = 1_000;

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    fn document(name: &str, version: u32, body: &str) -> ScriptDocument {
        ScriptDocument {
            format: DOCUMENT_FORMAT,
            name: name.into(),
            version,
            sha256: sha256_hex(body.as_bytes()),
            interpreter: "sh".into(),
            parameters: vec![ScriptParameter {
                default: Some("x".into()),
                ..ScriptParameter::named("WHO")
            }],
            timeout_ms: Some(5_000),
            has_trigger: false,
            requirements: None,
        }
    }

    fn signed(document: &ScriptDocument, key: &AgentKeyPair) -> ScriptSignature {
        let statement = SignedScript {
            format: STATEMENT_FORMAT,
            publisher: key.public_key(),
            name: document.name.clone(),
            version: document.version,
            document_sha256: sha256_hex(document.to_text().as_bytes()),
            minimum_version: document.version,
            expires_at_ms: NOW_MS + 1_000,
        };
        ScriptSignature::sign(&statement, key)
    }

    /// A command as a server sends it, which may claim anything.
    fn command(document: &ScriptDocument, body: &str, signatures: Vec<ScriptSignature>) -> Command {
        let text = document.to_text();
        let pin = ScriptPin {
            version: document.version,
            sha256: sha256_hex(body.as_bytes()),
            document_sha256: sha256_hex(text.as_bytes()),
        };
        let script = format!("library:{}", document.name);
        Command {
            command_id: Uuid::from_u128(1),
            command: "execute".into(),
            data: json!({"script": script, "library": pin}),
            timestamp: String::new(),
            start_within_ms: None,
            capsule: None,
            content: Some(Box::new(ScriptContent {
                document: text,
                body: body.into(),
                signatures,
            })),
            step_contents: vec![],
            call: None,
            request_id: None,
        }
    }

    fn planned(
        policy: &str,
        command: &Command,
        minimum: u32,
    ) -> Result<PlannedLibrary, &'static str> {
        let policy = Policy::parse(policy).expect("valid");
        let minimum_version = |_: &str| minimum;
        let rules =
            LibraryRules { policy: &policy, minimum_version: &minimum_version, now_ms: NOW_MS };
        let bounds = OutputLimits { limit_bytes: 1, quota_bytes: 2 };
        plan(command, &rules, bounds).map_err(|refusal| refusal.code())
    }

    fn pinned() -> String {
        json!({"allow": "library", "publishers": [pair(1).public_key()]}).to_string()
    }

    #[test]
    fn a_policy_decides_whether_scripts_of_the_library_run() {
        let command = command(&document("a", 1, "echo"), "echo", vec![]);
        for policy in [r#"{"allow":"library"}"#, r#"{"allow":"shell"}"#] {
            let planned = planned(policy, &command, 0).expect("allowed");
            let launch = planned.launch;
            assert_eq!(launch.script.as_deref(), Some("library:a"));
            assert_eq!(
                (launch.timeout_ms, launch.library),
                (5_000, Some(LibraryLaunch { version: 1 }))
            );
            assert_eq!(planned.file.name, format!("{}.sh", sha256_hex(b"echo")));
            assert_eq!(planned.parameters.parameters["WHO"], "x");
            assert_eq!(planned.minimum, None);
        }
        assert_eq!(planned("{}", &command, 0).err(), Some("library_not_allowed"));
    }

    #[test]
    fn a_content_that_is_missing_or_differs_from_the_pin_never_runs() {
        let (good, policy) = (document("a", 1, "echo"), r#"{"allow":"library"}"#);
        let mut missing = command(&good, "echo", vec![]);
        missing.content = None;
        assert_eq!(planned(policy, &missing, 0).err(), Some("script_missing"));
        let mut unpinned = command(&good, "echo", vec![]);
        unpinned.data = json!({"script": "library:a"});
        assert_eq!(planned(policy, &unpinned, 0).err(), Some("script_missing"));
        // The database row of the body was changed, then also the pin.
        let mut changed = command(&good, "echo", vec![]);
        changed.content.as_mut().expect("given").body = "evil".into();
        assert_eq!(planned(policy, &changed, 0).err(), Some("hash_mismatch"));
        assert_eq!(
            planned(policy, &command(&good, "evil", vec![]), 0).err(),
            Some("hash_mismatch")
        );
        let mut renamed = command(&good, "echo", vec![]);
        renamed.data["script"] = "library:b".into();
        assert_eq!(planned(policy, &renamed, 0).err(), Some("hash_mismatch"));
        let mut extra = command(&good, "echo", vec![]);
        extra.data["parameters"] = json!({"OTHER": "x"});
        assert_eq!(planned(policy, &extra, 0).err(), Some("invalid_parameters"));
    }

    #[test]
    fn a_host_with_publishers_runs_only_what_one_of_them_has_signed() {
        let (good, key) = (document("a", 3, "echo"), pair(1));
        let genuine = command(&good, "echo", vec![signed(&good, &key)]);
        let allowed = planned(&pinned(), &genuine, 3).expect("signed");
        assert_eq!(allowed.minimum, Some(("a".into(), 3)));
        let code = |command: &Command, minimum| planned(&pinned(), command, minimum).err();
        // A stolen owner key saves a version, or the database is changed with all its hashes.
        let evil = document("a", 4, "evil");
        assert_eq!(code(&command(&evil, "evil", vec![]), 0), Some("publisher_required"));
        assert_eq!(
            code(&command(&evil, "evil", vec![signed(&evil, &pair(2))]), 0),
            Some("publisher_required")
        );
        // Signatures of another version, and of another script.
        assert_eq!(
            code(&command(&evil, "evil", vec![signed(&good, &key)]), 0),
            Some("publisher_required")
        );
        let other = document("b", 3, "echo");
        assert_eq!(
            code(&command(&good, "echo", vec![signed(&other, &key)]), 0),
            Some("publisher_required")
        );
        // An old version that was genuine once.
        assert_eq!(code(&genuine, 4), Some("version_outdated"));
    }

    #[test]
    fn a_policy_without_a_publisher_in_its_list_is_refused_as_a_whole() {
        Policy::parse(r#"{"allow":"library","publishers":[]}"#).expect_err("none");
        Policy::parse(r#"{"allow":"library","publishers":["x"]}"#).expect_err("no key");
    }
}
