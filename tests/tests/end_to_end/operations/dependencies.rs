//! Rules of `deny.toml` that need no tool and no network, checked against `Cargo.lock`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use muster_tests::TestDir;
use toml::{Table, Value};

fn read(file: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(path).expect("read the file").parse().expect("valid TOML")
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The name and the dependencies of every locked package.
fn locked(lock: &Table) -> Vec<(&str, Vec<&str>)> {
    let packages = lock["package"].as_array().expect("a list");

    packages
        .iter()
        .map(|package| {
            let needs = package.get("dependencies").map(texts).unwrap_or_default();
            // `name`, or `name version` where several versions are locked.
            let needs = needs.into_iter().filter_map(|need| need.split(' ').next()).collect();
            (package["name"].as_str().expect("a string"), needs)
        })
        .collect()
}

#[test]
fn banned_crates_are_locked_only_through_named_wrappers() {
    let (rules, lock) = (read("deny.toml"), read("Cargo.lock"));
    let packages = locked(&lock);
    let bans = rules["bans"]["deny"].as_array().expect("a list");
    assert!(bans.len() > 4, "the bans were read");
    for ban in bans {
        let banned = ban["crate"].as_str().expect("a string");
        let wrappers = ban.get("wrappers").map(texts).unwrap_or_default();
        let is_locked = packages.iter().any(|(name, _)| *name == banned);
        assert!(!is_locked || !wrappers.is_empty(), "{banned} is banned: {ban}");
        for (name, needs) in &packages {
            let allowed = !needs.contains(&banned) || wrappers.contains(name);
            assert!(allowed, "{name} may not need {banned}: {ban}");
        }
    }
}

#[test]
fn connection_crates_are_locked_in_one_version() {
    let (rules, lock) = (read("deny.toml"), read("Cargo.lock"));
    let packages = locked(&lock);
    for single in texts(&rules["bans"]["deny-multiple-versions"]) {
        let copies = packages.iter().filter(|(name, _)| *name == single).count();
        assert_eq!(copies, 1, "copies of {single}");
    }
}

#[test]
fn every_ignored_advisory_has_a_reason_and_a_review_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    let text = std::fs::read_to_string(path).expect("read deny.toml");
    let rules = read("deny.toml");
    let ignored = rules["advisories"]["ignore"].as_array().expect("a list");
    assert_eq!(text.matches("# owner: ").count(), ignored.len());
    assert_eq!(text.matches(" · review: 20").count(), ignored.len());
    assert!(ignored.iter().all(|one| one["reason"].as_str().is_some_and(|why| why.len() > 20)));
}

/// Runs the check with these tools before the others, and this folder for cargo's files.
fn check(tools: &Path, cargo_home: &Path, required: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/check-licences.sh");
    Command::new("bash")
        .arg(script)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", tools.display()))
        .env("CARGO_HOME", cargo_home)
        .env("MUSTER_ADVISORIES", required)
        .output()
        .expect("run bash")
}

/// The real database is far away, so a program that writes its arguments down replaces cargo.
#[test]
fn advisories_are_checked_with_a_database_and_missed_in_one_line_without() {
    let test_dir = TestDir::new();
    let (tools, home) = (test_dir.folder("tools"), test_dir.folder("cargo"));
    let asked = test_dir.path().join("asked");
    for name in ["cargo", "cargo-deny"] {
        let file = tools.join(name);
        let text = format!("#!/bin/sh\necho \"$@\" >>'{}'\n", asked.display());
        std::fs::write(&file, text).expect("write a tool");
        std::fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("chmod");
    }
    let missed = check(&tools, &home, "");
    assert!(missed.status.success(), "{missed:?}");
    let said = String::from_utf8_lossy(&missed.stdout).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("NOT checked against known vulnerabilities"), "{said}");
    assert!(said.contains("cargo deny fetch db"), "{said}");
    assert!(!check(&tools, &home, "required").status.success(), "a release needs the database");

    std::fs::create_dir_all(home.join("advisory-dbs/advisory-db-1")).expect("make a folder");
    let checked = check(&tools, &home, "required");
    assert!(checked.status.success() && checked.stdout.is_empty(), "{checked:?}");
    let asked = std::fs::read_to_string(asked).expect("cargo was asked");
    assert_eq!(asked.lines().last(), Some("deny --all-features --offline check advisories"));
}
