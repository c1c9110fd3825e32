//! `execute` of a package: the host runs it only if its policy allows that, and the document is exactly
//! what the command pins. The archive is downloaded and checked before the start.

use std::collections::BTreeSet;

use muster_protocol::frame::Command;
use muster_protocol::identity::AgentPublicKey;
use muster_protocol::library::{ScriptContent, ScriptParameter};
use muster_protocol::manifest::ManifestMismatch;
use muster_protocol::package::{
    PACKAGE_PREFIX, PackageContentError, PackageDocument, PackagePin, PackageReference,
    find_package_statement, open_document,
};
use muster_protocol::parameter;
use serde::Deserialize;
use serde_json::Value;

use super::execute::{ExecuteData, ExecuteRefusal, names, request_of};
use super::library_refusal::LibraryRefusal;
use super::planned::{HostRules, Planned};
use crate::executions::ledger::record::{Launch, PackageLaunch, ParameterRecord};
use crate::policy::Allow;
use crate::policy::minimum_versions::Minimum;

/// True if a command is for a package, valid or not.
pub fn is_requested(data: &Value) -> bool {
    data.get("script").and_then(Value::as_str).is_some_and(|name| name.starts_with(PACKAGE_PREFIX))
}

/// Checks a request against what the host permits.
///
/// # Errors
/// [`ExecuteRefusal`] with a message that says what to do.
pub fn plan(command: &Command, rules: HostRules<'_>) -> Result<Planned, ExecuteRefusal> {
    let policy = rules.policy;
    let request = request_of(&command.data)?;
    let ExecuteData { script: Some(script), argv: None, .. } = &request else {
        return Err(ExecuteRefusal::Ambiguous);
    };
    if policy.allow == Allow::Manifest {
        return Err(ManifestMismatch::LibraryNotAllowed.into());
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
    let minimum = match &policy.publishers {
        Some(publishers) => Some(check_publisher(content, &document, publishers, &rules)?),
        None => None,
    };
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
        ..Launch::empty(policy.allow, rules.output)
    };
    let parameters = ParameterRecord {
        parameters: open,
        secret_parameters: secrets,
        defaults,
        ..ParameterRecord::default()
    };
    Ok(Planned { launch, parameters, files: Vec::new(), minimums: minimum.into_iter().collect() })
}

/// Finds the statement of a publisher, and what it makes the oldest version.
fn check_publisher(
    content: &ScriptContent,
    document: &PackageDocument,
    publishers: &[AgentPublicKey],
    rules: &HostRules<'_>,
) -> Result<Minimum, LibraryRefusal> {
    let (signatures, text) = (&content.signatures, &content.document);
    let signed = find_package_statement(signatures, publishers, document, text, rules.now_ms)?;
    let name = document.name.clone();
    if signed.rank < rules.minimum_versions.of_package(&name) {
        return Err(LibraryRefusal::OutdatedPackage(name));
    }
    // A statement about a version can't make that version itself too old.
    Ok(Minimum::Package { name, rank: signed.minimum_rank.min(signed.rank) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::identity::AgentKeyPair;
    use muster_protocol::library::{STATEMENT_FORMAT, ScriptSignature, SignedScript, sha256_hex};
    use muster_protocol::manifest::Manifest;
    use muster_protocol::package::SignedPackage;
    use serde_json::json;
    use uuid::Uuid;

    use crate::commands::execute::OutputLimits;
    use crate::policy::Policy;
    use crate::policy::minimum_versions::MinimumVersions;
    use crate::storage::layout::StateDir;

    const NOW_MS: u64 = 1_000;

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

    fn planned_above(
        policy: &str,
        command: &Command,
        minimum: u64,
    ) -> Result<Planned, &'static str> {
        let policy = Policy::parse(policy).expect("valid");
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let minimum_versions = MinimumVersions::open(&state).expect("none yet");
        let known = Minimum::Package { name: "backup".into(), rank: minimum };
        minimum_versions.raise(&known).expect("written");
        let rules = HostRules {
            manifest: &Manifest::default(),
            policy: &policy,
            minimum_versions: &minimum_versions,
            output: OutputLimits { limit_bytes: 1, quota_bytes: 2 },
            now_ms: NOW_MS,
        };
        plan(command, rules).map_err(|refusal| refusal.code())
    }

    fn planned(policy: &str, command: &Command) -> Result<(Launch, ParameterRecord), &'static str> {
        let planned = planned_above(policy, command, 0)?;
        assert_eq!(planned.minimums, [], "a host without publishers has no minimum");
        Ok((planned.launch, planned.parameters))
    }

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    fn statement(document: &PackageDocument, key: &AgentKeyPair) -> SignedPackage {
        SignedPackage {
            format: STATEMENT_FORMAT,
            publisher: key.public_key(),
            name: document.name.clone(),
            version: document.version.clone(),
            document_sha256: sha256_hex(document.to_text().as_bytes()),
            rank: 500,
            minimum_rank: 400,
            expires_at_ms: NOW_MS + 1_000,
        }
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
    fn a_host_that_pins_publishers_runs_only_packages_that_one_of_them_has_signed() {
        let policy = json!({"allow": "library", "publishers": [pair(1).public_key()]}).to_string();
        let good = document();
        let of = |document: &PackageDocument, signatures: Vec<ScriptSignature>, minimum| {
            let mut command = command(document);
            command.content.as_mut().expect("given").signatures = signatures;
            planned_above(&policy, &command, minimum)
        };
        let code = |document, signatures, minimum| of(document, signatures, minimum).err();
        let signed = |change: fn(&mut SignedPackage)| {
            let mut statement = statement(&good, &pair(1));
            change(&mut statement);
            vec![ScriptSignature::sign(&statement, &pair(1))]
        };
        let genuine = signed(|_| {});
        let allowed = of(&good, genuine.clone(), 500).expect("signed");
        assert_eq!(allowed.minimums, [Minimum::Package { name: "backup".into(), rank: 400 }]);
        let higher = of(&good, signed(|it| it.minimum_rank = 900), 0).expect("signed");
        assert_eq!(higher.minimums, [Minimum::Package { name: "backup".into(), rank: 500 }]);
        // Nothing is signed; a stranger signs; the archive or `muster.toml` was changed with all its hashes.
        let required = Some("publisher_required");
        assert_eq!(code(&good, vec![], 0), required);
        let stranger = ScriptSignature::sign(&statement(&good, &pair(2)), &pair(2));
        assert_eq!(code(&good, vec![stranger], 0), required);
        let archive = PackageDocument { sha256: sha256_hex(b"evil"), ..document() };
        assert_eq!(code(&archive, genuine.clone(), 0), required);
        let arguments = PackageDocument { argv: vec!["--evil".into()], ..document() };
        assert_eq!(code(&arguments, genuine.clone(), 0), required);
        // Signatures of another package, of another version, and of a script with the same name.
        let other = PackageDocument { name: "other".into(), ..document() };
        let other = vec![ScriptSignature::sign(&statement(&other, &pair(1)), &pair(1))];
        assert_eq!(code(&good, other, 0), required);
        let version = PackageDocument { version: "1.1.0".into(), ..document() };
        assert_eq!(code(&version, genuine.clone(), 0), required);
        let script = SignedScript {
            format: STATEMENT_FORMAT,
            publisher: pair(1).public_key(),
            name: "backup".into(),
            version: 1,
            document_sha256: sha256_hex(good.to_text().as_bytes()),
            minimum_version: 1,
            expires_at_ms: NOW_MS + 1_000,
        };
        assert_eq!(code(&good, vec![ScriptSignature::sign(&script, &pair(1))], 0), required);
        // An old version that was genuine once, and a statement that has expired.
        assert_eq!(code(&good, genuine, 501), Some("version_outdated"));
        let expired = signed(|it| it.expires_at_ms = NOW_MS);
        assert_eq!(code(&good, expired, 0), Some("signature_expired"));
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
