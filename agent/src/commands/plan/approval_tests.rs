//! What the plan runs is what the policy was asked about.

use muster_protocol::CommandName;
use muster_protocol::identity::AgentKeyPair;
use muster_protocol::library::{
    DOCUMENT_FORMAT, ScriptContent, ScriptDocument, ScriptPin, sha256_hex,
};
use muster_protocol::manifest::Manifest;
use muster_protocol::package::{PackageDocument, PackagePin};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::commands::execute::OutputLimits;
use crate::executions::ledger::record::Launch;
use crate::policy::Policy;
use crate::policy::minimum_versions::MinimumVersions;
use crate::storage::layout::StateDir;

fn library(name: &str) -> (Value, ScriptContent) {
    let document = ScriptDocument {
        format: DOCUMENT_FORMAT,
        name: name.into(),
        version: 1,
        sha256: sha256_hex(b"true"),
        interpreter: "sh".into(),
        parameters: vec![],
        timeout_ms: None,
        has_trigger: false,
        requirements: None,
    };
    let text = document.to_text();
    let document_sha256 = sha256_hex(text.as_bytes());
    let pin = ScriptPin { version: 1, sha256: document.sha256, document_sha256 };
    (json!(pin), ScriptContent { document: text, body: "true".into(), signatures: vec![] })
}

fn package(name: &str) -> (Value, ScriptContent) {
    let document = json!({
        "format": 1, "name": name, "version": "1", "kind": "job", "executor": "sh", "entry": "run.sh",
        "sha256": sha256_hex(b"archive"), "archive_bytes": 7, "unpacked_bytes": 9,
    });
    let document: PackageDocument = serde_json::from_value(document).expect("a document");
    let text = document.to_text();
    let document_sha256 = sha256_hex(text.as_bytes());
    let pin =
        PackagePin { version: document.version.clone(), sha256: document.sha256, document_sha256 };
    (json!(pin), ScriptContent { document: text, body: String::new(), signatures: vec![] })
}

/// A script as a server that was taken over may send it, with its content, and its name if it is valid.
fn sent(text: &str) -> (Value, Option<ScriptContent>) {
    let (prefix, rest) = text.split_once(':').unwrap_or(("", text));
    let name = rest.split('@').next().unwrap_or_default();
    match prefix {
        "library" => {
            let (pin, content) = library(name);
            (json!({"script": text, "library": pin}), Some(content))
        }
        "package" => {
            let (pin, content) = package(name);
            (json!({"script": text, "package": pin}), Some(content))
        }
        _ => (json!({ "script": text }), None),
    }
}

fn planned(policy: &Policy, command: &Command) -> Option<Launch> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let state = StateDir::create(folder.path()).expect("state directory");
    let minimum_versions = MinimumVersions::open(&state).expect("none yet");
    let manifest =
        json!({"scripts": [{"name": "a", "path": "a.sh"}, {"name": "b", "path": "b.sh"}]});
    let manifest = Manifest::parse(&manifest.to_string()).expect("valid");
    let rules = HostRules {
        manifest: &manifest,
        policy,
        minimum_versions: &minimum_versions,
        output: OutputLimits { limit_bytes: 1, quota_bytes: 2 },
        now_ms: 1_000,
    };
    plan(command, rules).ok().map(|planned| planned.launch)
}

proptest! {
    #[test]
    fn what_the_plan_runs_is_what_the_policy_was_asked_about(
        texts in prop::collection::vec("((library|package):)?[ab](@(1|01|2|1@1|))?", 1..4),
        is_alone in any::<bool>(),
        listed in "((library|package):[ab](@1)?|[ab])",
    ) {
        let key = AgentKeyPair::from_seed(&[1; 32]).expect("a seed").public_key();
        let needed = json!({"approvers": [key], "scripts": [listed], "ad_hoc": false});
        let policy = json!({"allow": "shell", "needs_approval": needed}).to_string();
        let policy = Policy::parse(&policy).expect("valid");
        let mut all: Vec<_> = texts.iter().map(|text| sent(text)).collect();
        let mut command = Command {
            command_id: Uuid::from_u128(1),
            command: "execute".into(),
            data: Value::Null,
            timestamp: String::new(),
            start_within_ms: None,
            capsule: None,
            content: None,
            step_contents: vec![],
            call: None,
            request_id: None,
        };
        if is_alone {
            let (data, content) = all.swap_remove(0);
            (command.data, command.content) = (data, content.map(Box::new));
        } else {
            let (steps, contents): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            command.data = json!({ "steps": steps });
            command.step_contents = contents.into_iter().flatten().collect();
        }
        let Some(launch) = planned(&policy, &command) else { return Ok(()) };
        let alone = [launch.script.as_deref()];
        let steps: Vec<_> = launch.steps.iter().map(|step| step.launch.script.as_deref()).collect();
        let runs = if launch.steps.is_empty() { &alone[..] } else { &steps };
        // The list may name a version too: all versions need the approval then.
        let listed = listed.split('@').next();
        let needed = policy.needs_approval.as_ref().expect("given");
        let is_asked = needed.concerns(CommandName::Execute, &command.data);
        prop_assert_eq!(is_asked, runs.contains(&listed), "{} ran {:?}", command.data, runs);
    }
}
