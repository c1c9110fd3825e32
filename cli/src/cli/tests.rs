//! Which option each field of the API belongs to, checked against the command line itself.

use std::collections::BTreeSet;

use clap::Command;
use serde_json::json;

use super::*;
use crate::error::problem::Problem;
use crate::explanation::OptionNames;

/// Each command with the options that its refusals name.
const COMMANDS: [(&str, OptionNames); 29] = [
    ("account", account::own::OPTIONS),
    ("access", access::OPTIONS),
    ("approvals", approvals::OPTIONS),
    ("agents", agents::OPTIONS),
    ("keys", keys::OPTIONS),
    ("api-keys", api_keys::OPTIONS),
    ("audit", audit::OPTIONS),
    ("ca", ca::OPTIONS),
    ("members", members::OPTIONS),
    ("run", run::OPTIONS),
    ("logs", logs::OPTIONS),
    ("jobs", jobs::OPTIONS),
    ("executions", executions::OPTIONS),
    ("webhooks", webhooks::OPTIONS),
    ("groups", groups::OPTIONS),
    ("calendars", calendars::OPTIONS),
    ("hooks", hooks::OPTIONS),
    ("alerts", alerts::OPTIONS),
    ("integrations", integrations::OPTIONS),
    ("schedules", schedules::OPTIONS),
    ("scripts", scripts::OPTIONS),
    ("packages", packages::OPTIONS),
    ("push", push::OPTIONS),
    ("pull", pull::OPTIONS),
    ("files", uploads::OPTIONS),
    ("assignments", assignments::OPTIONS),
    ("services", services::OPTIONS),
    ("tenant", tenant::OPTIONS),
    ("tenants", tenants::OPTIONS),
];

/// Options that this client handles alone, so that no refusal of the server concerns them.
const LOCAL_OPTIONS: [&str; 18] = [
    "--script-file",
    "--valid",
    "--expect",
    "--host",
    "--server",
    "--ca-file",
    "--json",
    "--insecure",
    "--detach",
    "--dry-run",
    "--show",
    "--no-show",
    "--cancel-on-interrupt",
    "--utc",
    "--raw",
    "--timeout-ms",
    "--help",
    "--version",
];

/// Arguments that select a resource or a file, which no field of a body holds.
const LOCAL_ARGUMENTS: [&str; 17] = [
    "AGENT",
    "ASSIGNMENT",
    "CALENDAR",
    "DELIVERY",
    "FILE",
    "GROUP",
    "HOOK",
    "ID",
    "INTEGRATION",
    "INVITATION",
    "JOB",
    "KEY",
    "MEMBER",
    "RULE",
    "SCHEDULE",
    "SERVICE",
    "TENANT",
];

/// The options and arguments of a command and its actions, as users type them.
fn typed_names(command: &Command, names: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        match argument.get_long() {
            Some(long) => drop(names.insert(format!("--{long}"))),
            None => {
                let words = argument.get_value_names().unwrap_or_default().iter();
                let words = words.flat_map(|name| name.as_str().split([' ', '[', ']']));
                names.extend(words.filter(|word| !word.is_empty()).map(str::to_uppercase));
            }
        }
    }
    command.get_subcommands().for_each(|action| typed_names(action, names));
}

#[test]
fn every_field_belongs_to_an_option_that_its_command_has() {
    let cli = Cli::command();
    let all = COMMANDS.iter().chain([&("commands", command_history::OPTIONS)]);
    for (command, options) in all {
        let mut names = BTreeSet::new();
        typed_names(cli.find_subcommand(command).expect("a command"), &mut names);
        for name in *options {
            for option in name.option.split(" or ") {
                assert!(names.contains(option), "{command}: {option} of {}: {names:?}", name.field);
            }
        }
    }
}

#[test]
fn every_option_is_named_by_a_field_or_is_local() {
    let cli = Cli::command();
    let mut unnamed = Vec::new();
    for (command, options) in COMMANDS {
        let mut names = BTreeSet::new();
        typed_names(cli.find_subcommand(command).expect("a command"), &mut names);
        for name in &names {
            let is_named =
                options.iter().any(|known| known.option.split(" or ").any(|one| one == name));
            // `agents wait` measures its timeout itself, `keys` sends the permissions as a whole, the options of `api-keys revoke` are
            // switches without a value that a server could refuse, `audit verify` reads files, and the host judges arguments and
            // parameters of `run` and of schedules.
            let alone = [
                ("agents", "--timeout"),
                ("agents", "--since"),
                ("logs", "--times"),
                ("keys", "--no-tags"),
                ("keys", "--add-permission"),
                ("keys", "--remove-permission"),
                ("api-keys", "--cascade"),
                ("api-keys", "--end-overlap"),
                ("api-keys", "--cancel-queued"),
                ("audit", "--from"),
                ("audit", "--head"),
                ("audit", "--output"),
                ("audit", "--public-key"),
                ("audit", "--save-head"),
                ("account", "--remove-identities"),
                ("passkeys", "--code"),
                ("tenant", "SETTING"),
                ("alerts", "--end"),
                ("schedules", "--end"),
                ("schedules", "--force"),
                ("packages", "PACKAGE"),
                ("packages", "--key"),
                ("packages", "--max-leap"),
                ("packages", "--minimum"),
                ("packages", "--newest"),
                ("pull", "FILE"),
                ("pull", "--resume"),
                ("pull", "--force"),
                ("files", "FILE"),
                ("packages", "SOURCE"),
                ("scripts", "--all"),
                ("scripts", "--on"),
                ("scripts", "--force"),
                ("scripts", "NAMES"),
                ("scripts", "--dry-run"),
                ("scripts", "--max-leap"),
                ("scripts", "--body"),
                ("scripts", "--file"),
                ("scripts", "--keep-current"),
                ("scripts", "--minimum"),
                ("scripts", "--newest"),
                ("scripts", "FOLDER"),
                ("scripts", "FROM"),
                ("scripts", "TO"),
                ("scripts", "SCRIPT"),
                ("scripts", "WHAT"),
                ("hooks", "ARGUMENT"),
                ("hooks", "NAME=VALUE"),
                ("schedules", "ARGUMENT"),
                ("schedules", "NAME=VALUE"),
                ("run", "ARGUMENT"),
                ("run", "NAME=VALUE"),
            ];
            let is_local = LOCAL_OPTIONS.contains(&name.as_str())
                || LOCAL_ARGUMENTS.contains(&name.as_str())
                || alone.contains(&(command, name.as_str()));
            if !is_named && !is_local {
                unnamed.push(format!("{command} {name}"));
            }
        }
    }
    assert!(unnamed.is_empty(), "which field does each set? {unnamed:?}");
}

#[test]
fn every_field_error_is_explained_with_its_option_and_without_its_field() {
    for (command, options) in COMMANDS {
        for name in options {
            for (code, limit, phrase) in [
                ("required", json!(null), "is required"),
                ("too_small", json!(1), "must be at least 1"),
                ("too_large", json!(1), "must be at most 1"),
                ("too_many", json!(1), "has too many values; the limit is 1"),
                ("unknown_field", json!(null), "the server does not support"),
                ("unknown_value", json!("a, b"), "must be one of: a, b"),
            ] {
                let document = json!({"code": "invalid_field", "detail": "the server's words",
                    "errors": [{"field": name.field, "code": code, "limit": limit}]});
                let problem = Problem::read(422, document.to_string().as_bytes(), None);
                let message = explain(CliError::Refused(Box::new(problem)), options).to_string();
                assert!(message.contains(phrase), "{command} {}: {message}", name.field);
                assert!(message.contains(name.option), "{command} {}: {message}", name.field);
                let is_path = name.field.contains(['_', '.']);
                assert!(!is_path || !message.contains(name.field), "{command}: {message}");
            }
        }
    }
}

#[test]
fn every_option_and_argument_has_a_help_text() {
    fn check(command: &Command, path: &str) {
        for argument in command.get_arguments() {
            let name = argument.get_id();
            assert!(argument.get_help().is_some(), "{path} {name} has no help");
        }
        for action in command.get_subcommands() {
            let path = format!("{path} {}", action.get_name());
            assert!(action.get_about().is_some(), "{path} has no help");
            check(action, &path);
        }
    }
    check(&Cli::command(), "muster");
    Cli::command().debug_assert();
}

#[test]
fn reference_of_the_command_line_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CLI.md");
    let mut cli = Cli::command();
    cli.build();
    let page = markdown(&cli);
    if std::env::var_os("MUSTER_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).expect("write docs/CLI.md");
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == page, "docs/CLI.md is out of date; MUSTER_WRITE_DOCS=1 writes it");
}

#[test]
fn every_command_has_a_section_and_a_manual_page() {
    let mut cli = Cli::command();
    cli.build();
    let (page, manuals) = (markdown(&cli), manual_pages(&cli));
    for command in
        cli.get_subcommands().filter(|action| action.get_name() != "help" && !action.is_hide_set())
    {
        let name = command.get_name();
        assert!(page.contains(&format!("\n## muster {name}\n")), "{name}");
        assert!(manuals.iter().any(|(file, _)| *file == format!("muster-{name}.1")), "{name}");
    }
    assert!(manuals.iter().all(|(_, text)| text.starts_with(".TH ")));
}
