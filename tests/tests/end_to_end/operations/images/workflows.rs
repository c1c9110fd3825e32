//! The workflow files of a public forge: they don't run here, so this checks that everything they
//! call exists.

use std::fs;

use muster_tests::{JsonFields as _, repository};
use serde_json::Value;

use super::yaml;

const WORKFLOWS: [&str; 2] = [".github/workflows/ci.yml", ".github/workflows/release.yml"];

/// Every step of every job.
fn steps(workflow: &Value) -> Vec<&Value> {
    let jobs = workflow["jobs"].as_object().expect("jobs").values();
    jobs.flat_map(|job| job.list("steps")).collect()
}

fn targets() -> Vec<String> {
    let makefile = fs::read_to_string(repository().join("Makefile")).expect("read");
    let rules = makefile.lines().filter(|line| !line.starts_with(['\t', '#', '.', ' ']));
    let names = rules.filter_map(|line| line.split_once(':').map(|(names, _)| names));
    names.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn workflows_call_make_targets_and_scripts_that_exist() {
    let targets = targets();
    for path in WORKFLOWS {
        let workflow = yaml(path);
        let mut called = 0;
        for step in steps(&workflow) {
            let Some(command) = step["run"].as_str() else { continue };
            let is_of_word = |c: char| c.is_alphanumeric() || "./_-=".contains(c);
            let words: Vec<_> = command.split(|c| !is_of_word(c)).collect();
            for pair in words.windows(2) {
                match pair {
                    ["make", target] => {
                        called += 1;
                        assert!(targets.iter().any(|known| known == target), "{path}: {command}");
                    }
                    [_, script] if script.starts_with("scripts/") || script.starts_with(".ci/") => {
                        called += 1;
                        assert!(repository().join(script).exists(), "{path}: {command}");
                    }
                    _ => {}
                }
            }
        }
        assert!(called > 0, "{path} calls nothing of ours");
    }
}

#[test]
fn workflows_are_marked_unverified_and_have_minimal_permissions() {
    for path in WORKFLOWS {
        let text = fs::read_to_string(repository().join(path)).expect("read");
        assert!(text.starts_with("# Unverified"), "{path}");
        assert!(!text.contains("secrets."), "{path} takes a secret");
        let workflow = yaml(path);
        assert_eq!(workflow["permissions"]["contents"], "read", "{path}");
        for job in workflow["jobs"].as_object().expect("jobs").values() {
            for (what, may) in job["permissions"].as_object().into_iter().flatten() {
                assert_eq!(may, "read", "{path}: {what}");
            }
        }
        for step in steps(&workflow) {
            if let Some(action) = step["uses"].as_str() {
                let version = action.split_once('@').map_or("", |(_, version)| version);
                let is_pinned = version.starts_with('v') && version.len() > 1;
                assert!(is_pinned && action.starts_with("actions/"), "{path}: {action}");
            }
        }
    }
}
