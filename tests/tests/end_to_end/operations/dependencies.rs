//! Rules of `deny.toml` that need no tool and no network, checked against `Cargo.lock`.

use std::path::Path;

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
