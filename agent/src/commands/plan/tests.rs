use muster_protocol::commands::step::{MAX_STEPS, OnFailure};
use muster_protocol::identity::AgentKeyPair;
use muster_protocol::library::{
    DOCUMENT_FORMAT, STATEMENT_FORMAT, ScriptContent, ScriptDocument, ScriptPin, ScriptSignature,
    SignedScript, sha256_hex,
};
use muster_protocol::manifest::Manifest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::commands::approval::pin_program;
use crate::commands::execute::OutputLimits;
use crate::policy::Policy;
use crate::policy::minimum_versions::MinimumVersions;
use crate::storage::layout::StateDir;

const NOW_MS: u64 = 1_000;

fn manifest() -> Manifest {
    let text = json!({"scripts": [
        {"name": "free", "path": "a.sh"},
        {"name": "pinned", "path": "p.sh", "sha256": "ab".repeat(32)},
        {"name": "tight", "path": "b.sh", "timeout_ms": 1000,
         "parameters": [{"name": "WHO", "required": true}, {"name": "TOKEN", "secret": true}]},
    ]});
    Manifest::parse(&text.to_string()).expect("valid")
}

fn command(data: Value, step_contents: Vec<ScriptContent>) -> Command {
    Command {
        command_id: Uuid::from_u128(1),
        command: "execute".into(),
        data,
        timestamp: String::new(),
        start_within_ms: None,
        capsule: None,
        content: None,
        step_contents,
        call: None,
        request_id: None,
    }
}

fn planned_with(
    policy: &Value,
    data: Value,
    contents: Vec<ScriptContent>,
) -> Result<Planned, (&'static str, String)> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let state = StateDir::create(folder.path()).expect("state directory");
    let minimum_versions = MinimumVersions::open(&state).expect("none yet");
    let (manifest, policy) = (manifest(), Policy::parse(&policy.to_string()).expect("valid"));
    let rules = HostRules {
        manifest: &manifest,
        policy: &policy,
        minimum_versions: &minimum_versions,
        output: OutputLimits { limit_bytes: 1, quota_bytes: 2 },
        now_ms: NOW_MS,
    };
    let planned = plan(&command(data, contents), rules);
    planned.map_err(|refusal| (refusal.code(), refusal.to_string()))
}

fn planned(policy: Value, steps: Value) -> Result<Planned, (&'static str, String)> {
    planned_with(&policy, json!({ "steps": steps }), vec![])
}

#[test]
fn each_step_is_planned_as_if_it_were_sent_alone() {
    let data = json!({
        "steps": [
            {"name": "First", "script": "tight", "parameters": {"WHO": "me"}, "secrets": ["TOKEN"]},
            {"argv": ["uname", "-a"], "timeout_ms": 5, "on_failure": "continue"},
            {"script": "pinned"},
        ],
        "secret_parameters": {"TOKEN": "hunter2"}, "timeout_ms": 70,
    });
    let planned = planned_with(&json!({"allow": "shell"}), data, vec![]).expect("allowed");
    assert_eq!(planned.launch.script.as_deref(), Some("steps:tight,(argv),pinned"));
    assert_eq!((planned.launch.timeout_ms, planned.launch.argv.len()), (70, 0));
    let [first, second, third] = planned.launch.steps.as_slice() else { panic!("three steps") };
    assert_eq!((first.name.as_deref(), first.launch.timeout_ms), (Some("First"), 1000));
    assert_eq!((second.launch.argv.len(), second.launch.timeout_ms), (2, 5));
    assert_eq!((second.on_failure, third.on_failure), (OnFailure::Continue, OnFailure::Stop));
    assert_eq!(third.launch.sha256, Some("ab".repeat(32)));
    let [first, second, third] = planned.parameters.steps.as_slice() else { panic!("three") };
    assert_eq!((first.secret_parameters.len(), first.parameters.len()), (1, 1));
    assert!(second.is_empty() && third.is_empty(), "secrets go only to the step that names them");
    assert_eq!(planned.parameters.all_secrets().len(), 1);
}

#[test]
fn one_step_that_is_not_allowed_refuses_them_all() {
    let good = json!({"script": "free"});
    for (policy, bad, code) in [
        ("manifest", json!({"argv": ["true"]}), "argv_not_allowed"),
        ("library", json!({"argv": ["true"]}), "argv_not_allowed"),
        ("manifest", json!({"script": "library:a"}), "library_not_allowed"),
        ("library", json!({"script": "library:a"}), "script_missing"),
        ("manifest", json!({"script": "package:a"}), "library_not_allowed"),
        ("shell", json!({"script": "unlisted"}), "unknown_script"),
        ("shell", json!({"script": "tight"}), "invalid_parameters"),
        ("shell", json!({"script": "free", "parameters": {"A": "1"}}), "invalid_parameters"),
        ("shell", json!({"argv": ["true"], "parameters": {"PATH": "/"}}), "invalid_parameters"),
        ("shell", json!({"argv": ["./x"]}), "invalid_argv"),
        ("shell", json!({"argv": ["true"], "script": "free"}), "invalid_data"),
        ("shell", json!({"steps": [{"script": "free"}]}), "invalid_data"),
        ("shell", json!({"argv": ["true"], "secrets": ["TOKEN"]}), "invalid_data"),
        ("shell", json!({"script": "free", "timeout_ms": 0}), "invalid_data"),
        ("shell", json!({"script": "free", "name": "a\nb"}), "invalid_data"),
    ] {
        for (steps, number) in [(json!([bad, good]), 1), (json!([good, bad]), 2)] {
            let (refused, text) = planned(json!({ "allow": policy }), steps).expect_err(code);
            assert_eq!(refused, code, "{bad}");
            assert!(text.starts_with(&format!("step {number}: ")), "{bad}: {text}");
        }
    }
    for data in [
        json!({"steps": []}),
        json!({"steps": vec![good.clone(); MAX_STEPS + 1]}),
        json!({"steps": {}}),
        json!({"steps": [good], "script": "free"}),
        json!({"steps": [good], "argv": ["true"]}),
        json!({"steps": [good], "parameters": {"A": "1"}}),
        json!({"steps": [good], "stdin": "aGk="}),
        json!({"steps": [good], "timeout_ms": 0}),
    ] {
        let shell = json!({"allow": "shell"});
        let refused = planned_with(&shell, data.clone(), vec![]).expect_err("invalid");
        assert_eq!(refused.0, "invalid_data", "{data}");
    }
}

#[test]
fn an_approver_signs_the_file_of_each_step() {
    let approved = |hashes: &[Option<&str>]| {
        let text = json!({
            "version": 1, "approver": AgentKeyPair::from_seed(&[1; 32]).expect("a seed").public_key(),
            "command_id": Uuid::nil(), "agent_id": Uuid::nil(),
            "host": AgentKeyPair::from_seed(&[2; 32]).expect("a seed").public_key().fingerprint(),
            "command": "execute", "data_sha256": "", "step_programs_sha256": hashes,
            "expires_at_ms": 1,
        });
        serde_json::from_value(text).expect("an approved command")
    };
    let steps = json!([{"script": "free"}, {"argv": ["true"]}, {"script": "pinned"}]);
    let launch = || planned(json!({"allow": "shell"}), steps.clone()).expect("allowed").launch;
    let (one, two) = ("cd".repeat(32), "ab".repeat(32));
    let pin = |hashes: &[Option<&str>]| pin_program(launch(), Some(&approved(hashes)));
    let pinned = pin(&[Some(&one), None, Some(&two)]).expect("signed");
    let hashes: Vec<_> = pinned.steps.iter().map(|step| step.launch.sha256.clone()).collect();
    assert_eq!(hashes, [Some(one.clone()), None, Some(two.clone())]);
    for hashes in [
        &[][..],
        &[Some(one.as_str()), None],
        &[None, None, Some(two.as_str())],
        &[Some(one.as_str()), None, Some(one.as_str())],
    ] {
        let refused = pin(hashes).expect_err("not signed");
        assert_eq!(refused.0, "capsule_invalid", "{hashes:?}");
    }
}

fn pair(seed: u8) -> AgentKeyPair {
    AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
}

/// A version of a script of the library, signed with these statements of the oldest version.
fn content(name: &str, version: u32, signers: &[(&AgentKeyPair, u32)]) -> (Value, ScriptContent) {
    let body = format!("echo {name} {version}");
    let document = ScriptDocument {
        format: DOCUMENT_FORMAT,
        name: name.into(),
        version,
        sha256: sha256_hex(body.as_bytes()),
        interpreter: "sh".into(),
        parameters: vec![],
        timeout_ms: None,
        has_trigger: false,
        requirements: None,
    };
    let text = document.to_text();
    let signatures = signers.iter().map(|(pair, minimum_version)| {
        let statement = SignedScript {
            format: STATEMENT_FORMAT,
            publisher: pair.public_key(),
            name: name.into(),
            version,
            document_sha256: sha256_hex(text.as_bytes()),
            minimum_version: *minimum_version,
            expires_at_ms: NOW_MS + 1_000,
        };
        ScriptSignature::sign(&statement, pair)
    });
    let pin = ScriptPin {
        version,
        sha256: sha256_hex(body.as_bytes()),
        document_sha256: sha256_hex(text.as_bytes()),
    };
    let step = json!({"script": format!("library:{name}"), "library": pin});
    let content = ScriptContent { document: text.clone(), body, signatures: signatures.collect() };
    (step, content)
}

#[test]
fn a_host_with_publishers_runs_steps_only_if_one_of_them_has_signed_each() {
    let policy = json!({"allow": "library", "publishers": [pair(1).public_key()]});
    let key = pair(1);
    let (a, content_a) = content("a", 1, &[(&key, 1)]);
    let (b, content_b) = content("b", 1, &[(&key, 1)]);
    let (c, content_c) = content("c", 1, &[(&pair(2), 1)]);
    let planned = |steps: &[&Value], contents: &[&ScriptContent]| {
        let contents = contents.iter().map(|content| (*content).clone()).collect();
        planned_with(&policy, json!({ "steps": steps }), contents)
    };
    let allowed = planned(&[&a, &b, &a], &[&content_b, &content_a]).expect("signed");
    assert_eq!((allowed.files.len(), allowed.minimums.len()), (2, 3));
    let code = |refused: Result<Planned, (&'static str, String)>| refused.expect_err("refused").0;
    assert_eq!(code(planned(&[&a, &c], &[&content_a, &content_c])), "publisher_required");
    assert_eq!(code(planned(&[&a, &b], &[&content_a])), "script_missing");
    let evil = ScriptContent { body: "evil".into(), ..content_b.clone() };
    assert_eq!(code(planned(&[&a, &b], &[&content_a, &evil])), "hash_mismatch");
    // A later version states that the earlier one is too old: sent alone, that would run no more.
    let (newer, content_newer) = content("a", 2, &[(&key, 2)]);
    let both = [&content_a, &content_newer];
    assert_eq!(code(planned(&[&newer, &a], &both)), "version_outdated");
    assert_eq!(code(planned(&[&a, &newer], &both)), "version_outdated");
}
