//! `execute` of a package: the host runs it only if its policy allows that, and the document is exactly
//! what the command pins. The archive is downloaded and checked before the start.

use std::collections::BTreeSet;

use muster_protocol::frame::Command;
use muster_protocol::library::ScriptParameter;
use muster_protocol::manifest::ManifestMismatch;
use muster_protocol::package::{
    PACKAGE_PREFIX, PackageContentError, PackagePin, PackageReference, open_document,
};
use muster_protocol::parameter;
use serde::Deserialize;
use serde_json::Value;

use super::execute::{ExecuteData, ExecuteRefusal, OutputLimits, names, request_of};
use super::library_refusal::LibraryRefusal;
use crate::executions::ledger::record::{Launch, PackageLaunch, ParameterRecord};
use crate::policy::{Allow, Policy};

/// True if a command is for a package, valid or not.
pub fn is_requested(data: &Value) -> bool {
    data.get("script").and_then(Value::as_str).is_some_and(|name| name.starts_with(PACKAGE_PREFIX))
}

/// Checks a request against what the host permits.
///
/// # Errors
/// [`ExecuteRefusal`] with a message that says what to do.
pub fn plan(
    command: &Command,
    policy: &Policy,
    bounds: OutputLimits,
) -> Result<(Launch, ParameterRecord), ExecuteRefusal> {
    let request = request_of(&command.data)?;
    let ExecuteData { script: Some(script), argv: None, .. } = &request else {
        return Err(ExecuteRefusal::Ambiguous);
    };
    if policy.allow == Allow::Manifest {
        return Err(ManifestMismatch::LibraryNotAllowed.into());
    }
    if policy.publishers.is_some() {
        return Err(LibraryRefusal::UnsignedPackage.into());
    }
    let unknown = || ManifestMismatch::unknown_script(script);
    let reference = PackageReference::parse(script).ok_or_else(unknown)?;
    let missing = || LibraryRefusal::from(PackageContentError::Missing(reference.name.clone()));
    let content = command.content.as_deref().ok_or_else(missing)?;
    if request.stdin.is_some() {
        return Err(ManifestMismatch::LibraryStdin.into());
    }
    let pin = command.data.get("package").map(PackagePin::deserialize).transpose();
    let pin = pin.map_err(ExecuteRefusal::Malformed)?.ok_or_else(missing)?;
    let document = open_document(&content.document, &reference.name, &pin);
    let document = document.map_err(LibraryRefusal::from)?;
    let (asked, open, secrets) =
        (request.timeout_ms, request.parameters, request.secret_parameters);
    document.check_values(&open, &secrets).map_err(ManifestMismatch::from)?;
    let given: BTreeSet<String> = names(&open, &secrets).collect();
    let (open, secrets) =
        parameter::resolve(open, secrets, &document.accepted()).map_err(ManifestMismatch::from)?;
    let defaults = names(&open, &secrets).filter(|name| !given.contains(name)).collect();
    let timeout_ms = match (asked, document.timeout_ms) {
        (Some(asked), Some(most)) => asked.min(most),
        (asked, most) => asked.or(most).unwrap_or(muster_protocol::limits::DEFAULT_TIMEOUT_MS),
    };
    let file_parameters = ScriptParameter::files_among(&document.parameters, &open);
    let launch = Launch {
        file_parameters,
        path: document.entry,
        interpreter: document.executor.interpreter().map(str::to_owned),
        args: document.argv,
        sha256: Some(document.sha256),
        script: Some(reference.full_name()),
        package: Some(PackageLaunch {
            version: document.version,
            archive_bytes: document.archive_bytes,
        }),
        timeout_ms,
        ..Launch::empty(policy.allow, bounds)
    };
    let record = ParameterRecord {
        parameters: open,
        secret_parameters: secrets,
        defaults,
        ..ParameterRecord::default()
    };
    Ok((launch, record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::library::{ScriptContent, sha256_hex};
    use muster_protocol::package::PackageDocument;
    use serde_json::json;
    use uuid::Uuid;

    fn document() -> PackageDocument {
        let document = json!({
            "format": 1, "name": "backup", "version": "1.2.0", "kind": "job", "executor": "sh",
            "entry": "bin/run.sh", "argv": ["--all"],
            "parameters": [ScriptParameter { default: Some("x".into()), ..ScriptParameter::named("WHO") }],
            "timeout_ms": 5_000, "sha256": sha256_hex(b"archive"), "archive_bytes": 7, "unpacked_bytes": 9,
        });
        serde_json::from_value(document).expect("a document")
    }

    /// A command as a server sends it, which may claim anything.
    fn command(document: &PackageDocument) -> Command {
        let text = document.to_text();
        let pin = PackagePin {
            version: document.version.clone(),
            sha256: document.sha256.clone(),
            document_sha256: sha256_hex(text.as_bytes()),
        };
        let body = String::new();
        Command {
            command_id: Uuid::from_u128(1),
            command: "execute".into(),
            data: json!({"script": "package:backup", "package": pin}),
            timestamp: String::new(),
            start_within_ms: None,
            capsule: None,
            content: Some(Box::new(ScriptContent { document: text, body, signatures: vec![] })),
            step_contents: vec![],
            call: None,
            request_id: None,
        }
    }

    fn planned(policy: &str, command: &Command) -> Result<(Launch, ParameterRecord), &'static str> {
        let policy = Policy::parse(policy).expect("valid");
        let bounds = OutputLimits { limit_bytes: 1, quota_bytes: 2 };
        plan(command, &policy, bounds).map_err(|refusal| refusal.code())
    }

    #[test]
    fn a_policy_decides_whether_packages_run() {
        let command = command(&document());
        for policy in [r#"{"allow":"library"}"#, r#"{"allow":"shell"}"#] {
            let (launch, parameters) = planned(policy, &command).expect("allowed");
            assert_eq!(launch.script.as_deref(), Some("package:backup"));
            assert_eq!(launch.path, "bin/run.sh");
            assert_eq!(launch.interpreter.as_deref(), Some("sh"));
            assert_eq!(launch.args, ["--all"]);
            assert_eq!(launch.timeout_ms, 5_000);
            assert_eq!(parameters.parameters["WHO"], "x");
        }
        assert_eq!(planned("{}", &command).err(), Some("library_not_allowed"));
    }

    #[test]
    fn a_host_that_pins_publishers_runs_no_package() {
        let pair = muster_protocol::identity::AgentKeyPair::from_seed(&[1; 32]).expect("a seed");
        let policy = json!({"allow": "library", "publishers": [pair.public_key()]}).to_string();
        let refused = planned(&policy, &command(&document()));
        assert_eq!(refused.err(), Some("publisher_required"));
    }

    #[test]
    fn a_document_that_is_missing_or_differs_from_the_pin_never_runs() {
        let policy = r#"{"allow":"library"}"#;
        let mut missing = command(&document());
        missing.content = None;
        assert_eq!(planned(policy, &missing).err(), Some("package_missing"));
        let mut unpinned = command(&document());
        unpinned.data = json!({"script": "package:backup"});
        assert_eq!(planned(policy, &unpinned).err(), Some("package_missing"));
        let mut changed = command(&document());
        let content = changed.content.as_mut().expect("given");
        content.document = content.document.replace("run.sh", "evil.sh");
        assert_eq!(planned(policy, &changed).err(), Some("hash_mismatch"));
        let mut renamed = command(&document());
        renamed.data["script"] = "package:other".into();
        assert_eq!(planned(policy, &renamed).err(), Some("hash_mismatch"));
        let outside = PackageDocument { entry: "../../bin/sh".into(), ..document() };
        assert_eq!(planned(policy, &command(&outside)).err(), Some("invalid_data"));
        let mut extra = command(&document());
        extra.data["parameters"] = json!({"OTHER": "x"});
        assert_eq!(planned(policy, &extra).err(), Some("invalid_parameters"));
    }
}
