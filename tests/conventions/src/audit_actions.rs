//! Audit actions are named `<resource>.<verb>`, so that people can filter the log.

use std::collections::BTreeSet;

use crate::{literals, sources};

/// What an action changes: the kinds of subjects.
const RESOURCES: [&str; 35] = [
    "agent",
    "agent_key",
    "alert_rule",
    "api_key",
    "approval",
    "approval_rule",
    "assignment",
    "audit",
    "authority",
    "calendar",
    "certificate",
    "command",
    "device_login",
    "file",
    "group",
    "hook",
    "identity",
    "integration",
    "invitation",
    "job",
    "ladder",
    "master_key",
    "member",
    "package",
    "passkey",
    "release",
    "schedule",
    "script",
    "server",
    "service",
    "session",
    "tenant",
    "totp",
    "webhook",
    "webhook_secret",
];
/// What happens to it, in the imperative.
const VERBS: [&str; 50] = [
    "abort",
    "accept",
    "adopt",
    "announce",
    "approve",
    "cancel",
    "change_key",
    "confirm",
    "create",
    "delete",
    "deliver",
    "deregister",
    "disable",
    "draft",
    "enable",
    "expire",
    "export",
    "finish",
    "halt",
    "limit",
    "pass_on",
    "pause",
    "publish",
    "purge",
    "read",
    "refuse",
    "regenerate",
    "remove",
    "resend",
    "reset",
    "restart",
    "restore",
    "resume",
    "retire",
    "revoke",
    "rotate",
    "run",
    "save",
    "send",
    "sign",
    "silence",
    "snooze",
    "start",
    "stop",
    "submit",
    "switch",
    "test",
    "update",
    "upload",
    "withdraw",
];

/// Where AUDIT_ACTIONS has every action.
const LIST: &str = "server/src/domain/access/audit_actions.rs";

/// Fields of requests that look like actions.
const FIELDS: [&str; 2] = ["file.bytes", "schedule.every_ms"];

/// The audit actions of these sources: everything given to an `action`, and every text that looks like
/// one.
fn actions(texts: &[&str]) -> BTreeSet<String> {
    let mut found = literals::given_to("action", texts);
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_action = |text: &String| match text.split_once('.') {
        Some((resource, verb)) => {
            RESOURCES.contains(&resource) && is_word(verb) && !FIELDS.contains(&text.as_str())
        }
        None => false,
    };
    found.extend(texts.iter().flat_map(|text| literals::all(text)).filter(is_action));
    found
}

fn problem(action: &str) -> Option<String> {
    match action.split_once('.') {
        None => Some(format!("`{action}` is not `<resource>.<verb>`, such as `agent.delete`")),
        Some((resource, _)) if !RESOURCES.contains(&resource) => Some(format!(
            "`{action}`: use one of the resources {RESOURCES:?}, or add `{resource}` to RESOURCES in {}",
            file!()
        )),
        Some((_, verb)) if !VERBS.contains(&verb) => Some(format!(
            "`{action}`: use one of the verbs {VERBS:?}, or add `{verb}` to VERBS in {}, in the imperative",
            file!()
        )),
        Some(_) => None,
    }
}

#[test]
fn audit_actions_are_named_by_resource_and_verb() {
    let sources = sources::rust_files(&["server"]);
    let texts: Vec<_> = sources
        .iter()
        .filter(|source| source.path.starts_with("server/src/services/"))
        .map(|source| source.text.as_str())
        .collect();
    let actions = actions(&texts);
    assert!(actions.len() > 20, "the audit moved: this test finds {actions:?}");
    let problems: Vec<_> = actions.iter().filter_map(|action| problem(action)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // Only these can be filtered by. Its comments have spaces.
    let listed = literals::all(&sources::read(LIST)).into_iter();
    let listed: BTreeSet<_> = listed.filter(|text| !text.contains(' ')).collect();
    assert_eq!(listed, actions, "AUDIT_ACTIONS in {LIST}");
    // A resource or verb that no action uses hides a spelling mistake.
    let unused = |words: &[&str], part: fn(&str) -> Option<&str>| -> Vec<String> {
        let used: BTreeSet<_> = actions.iter().filter_map(|action| part(action)).collect();
        words.iter().filter(|word| !used.contains(*word)).map(|word| (*word).to_owned()).collect()
    };
    let resources =
        unused(&RESOURCES, |action| action.split_once('.').map(|(resource, _)| resource));
    let verbs = unused(&VERBS, |action| action.split_once('.').map(|(_, verb)| verb));
    assert!(resources.is_empty() && verbs.is_empty(), "no action uses {resources:?} {verbs:?}");
}

#[test]
fn actions_with_other_names_are_found() {
    let source = r#"
        fn audit(&self, action: &str, subject: Subject) {}
        fn delete() { caller.audit("delete_agent", subject); caller.audit("agents.delete", subject); }
        fn halt() -> AuditAction { AuditAction { action: "job.halted", subject } }
        fn pause() { let (name, verb) = ("group.pause", "paused"); }
    "#;
    let found = actions(&[source]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found.iter().filter_map(|action| problem(action)).count(), 3);
}
