//! The Dockerfiles, compared with each other and with the repository.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use muster_tests::{Dockerfile, binary, repository};

const PARTS: [&str; 2] = ["server", "agent"];

fn workspace() -> toml::Table {
    let text = fs::read_to_string(repository().join("Cargo.toml")).expect("read");
    text.parse().expect("TOML")
}

/// Whether `.dockerignore` includes a path of the repository, for the kinds of patterns that we
/// use.
fn is_sent(path: &str) -> bool {
    let rules = fs::read_to_string(repository().join(".dockerignore")).expect("read");
    let mut kept = rules.lines().filter_map(|rule| rule.strip_prefix('!'));
    path == "." || kept.any(|rule| path == rule || path.starts_with(&format!("{rule}/")))
}

#[test]
fn every_named_stage_exists_and_every_copied_file_is_in_the_context() {
    for part in PARTS {
        let file = Dockerfile::read(part);
        for (at, stage) in file.stages.iter().enumerate() {
            let before = |name: &str| {
                file.stages[..at].iter().any(|stage| stage.name.as_deref() == Some(name))
            };
            let is_public = stage.from.contains(':');
            assert!(is_public || before(&stage.from), "{part}: FROM {}", stage.from);
            for copy in stage.steps.iter().filter(|step| step.word == "COPY") {
                let mut words: Vec<_> = copy.text.split_whitespace().collect();
                words.pop().expect("where to");
                if let Some(from) = words[0].strip_prefix("--from=") {
                    assert!(before(from), "{part}: COPY {}", copy.text);
                    continue;
                }
                for source in words {
                    assert!(repository().join(source).exists(), "{part}: COPY {source}");
                    assert!(is_sent(source), "{part}: .dockerignore holds {source} back");
                }
            }
        }
    }
}

#[test]
fn build_context_contains_all_sources() {
    let rules = fs::read_to_string(repository().join(".dockerignore")).expect("read");
    let refusing: Vec<_> = rules.lines().filter(|rule| !rule.starts_with(['!', '#'])).collect();
    // Any other pattern may match a source: `**/target` did, which is also a module of the server.
    assert_eq!(refusing, ["*", "**/*.snap.new"]);
    for part in ["deploy.sh", "server/templates", "agent/assets", "tests/src"] {
        assert!(repository().join(part).exists() && is_sent(part), "{part}");
    }
    for secret in [".git", "secrets/agent_key", ".demo", "target", "deploy/x"] {
        assert!(!is_sent(secret), "{secret}");
    }
}

#[test]
fn dependency_layer_has_every_manifest_and_the_compiler_of_the_workspace() {
    let workspace = workspace();
    let members = workspace["workspace"]["members"].as_array().expect("a list");
    let members: BTreeSet<_> = members.iter().map(|one| one.as_str().expect("a path")).collect();
    let version = workspace["workspace"]["package"]["rust-version"].as_str().expect("a version");
    for part in PARTS {
        let file = Dockerfile::read(part);
        let build = file.stage("build").expect("a stage");
        assert_eq!(build.from, format!("rust:{version}-slim-bookworm"), "{part}");
        let copies = build.steps.iter().filter(|step| step.word == "COPY");
        let copied: BTreeSet<_> = copies
            .filter_map(|step| step.text.split_once("/Cargo.toml ").map(|(member, _)| member))
            .collect();
        assert_eq!(copied, members, "{part}");
        for step in build.steps.iter().filter(|step| step.text.starts_with("for crate in ")) {
            let named = step.text["for crate in ".len()..].split(';').next().expect("names");
            assert_eq!(named.split_whitespace().collect::<BTreeSet<_>>(), members, "{part}");
        }
        for step in build.steps.iter().filter(|step| step.text.contains("cargo build")) {
            let (all, locked) = ("cargo build", "cargo build --locked");
            assert_eq!(step.text.matches(all).count(), step.text.matches(locked).count());
        }
    }
}

#[test]
fn images_run_unprivileged_without_secrets_and_have_labels() {
    for part in PARTS {
        let file = Dockerfile::read(part);
        assert_eq!(file.user(), (10001, 10001), "{part}");
        assert_eq!(file.only("STOPSIGNAL"), "SIGTERM", "{part}");
        assert!(!file.health_check().is_empty(), "{part}");
        let labels = file.pairs("LABEL");
        assert_eq!(labels["org.opencontainers.image.version"], "$VERSION", "{part}");
        let steps = file.stages.iter().flat_map(|stage| &stage.steps);
        for step in steps.filter(|step| step.word == "ENV" || step.word == "ARG") {
            for word in step.text.split_whitespace() {
                let name = word.split('=').next().expect("a name").to_uppercase();
                let is_secret = ["KEY", "PASSWORD", "TOKEN", "SECRET", "DATABASE_URL"]
                    .iter()
                    .any(|secret| name.contains(secret));
                assert!(!is_secret || name.ends_with("_FILE"), "{part}: {word}");
            }
        }
    }
}

#[test]
fn every_image_variable_is_read_by_its_programs_and_every_path_exists() {
    let help = |program: &str, command: &str| {
        let output = Command::new(binary(program)).args([command, "--help"]).output();
        String::from_utf8(output.expect("run it").stdout).expect("text")
    };
    let known = [
        ("server", help("muster-server", "serve")),
        ("agent", help("muster-supervisor", "run") + &help("muster-agent", "run")),
    ];
    for (part, help) in known {
        let file = Dockerfile::read(part);
        let volumes = file.volumes();
        for (name, value) in file.pairs("ENV") {
            // Not for people, so it is not in any help.
            let internal = ["MUSTER_FROM_IMAGE", "MUSTER_SERVICE_MANAGER"];
            let is_known = help.contains(&name) || internal.contains(&name.as_str());
            assert!(is_known, "{part}: nothing reads {name}");
            if value.starts_with('/') {
                let is_kept = volumes.iter().any(|volume| value.starts_with(volume));
                assert!(is_kept, "{part}: {name}={value} is in no volume");
            }
        }
        let program = &file.words("ENTRYPOINT")[0];
        assert!(program.starts_with("/usr/lib/muster/"), "{part}: {program}");
    }
}
