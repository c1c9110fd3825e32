//! The version is in one place, and one command raises it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const SCRIPTS: [&str; 2] = ["scripts/bump-version.sh", "scripts/show-version.sh"];

/// A workspace of one crate at 1.2.3, with the script and a changelog.
fn workspace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("make a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, text).expect("write a file");
    };
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"one\"]\nresolver = \"3\"\n\n[workspace.package]\nversion = \"1.2.3\"\n\n\
         [workspace.metadata]\nversion = \"9.9.9\"\n",
    );
    write("one/Cargo.toml", "[package]\nname = \"one\"\nversion.workspace = true\n");
    write("one/src/lib.rs", "");
    write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n- news\n");
    write("fuzz/engine/Cargo.lock", &fuzzer_lock("1.2.3"));
    // Replaces the command that builds the server.
    write("scripts/write-openapi.sh", "bash scripts/show-version.sh >server_openapi\n");
    for script in SCRIPTS {
        write(script, &fs::read_to_string(Path::new(ROOT).join(script)).expect("read a script"));
    }
    folder
}

/// Two crates of ours, and a foreign one with the same version by chance.
fn fuzzer_lock(version: &str) -> String {
    format!(
        "[[package]]\nname = \"muster-fuzz\"\nversion = \"{version}\"\n\n\
         [[package]]\nname = \"muster-fuzz-engine\"\nversion = \"0.0.0\"\n\n\
         [[package]]\nname = \"other\"\nversion = \"1.2.3\"\n"
    )
}

fn bump(folder: &Path, part: &str) -> Output {
    let script = folder.join("scripts/bump-version.sh");
    Command::new("bash").arg(script).arg(part).output().expect("run bash")
}

fn version(folder: &Path) -> String {
    let args = ["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"];
    let output = Command::new("cargo").args(args).current_dir(folder).output().expect("run cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"][0]["version"].as_str().expect("a string").to_owned()
}

#[test]
fn bump_raises_the_version_and_starts_a_changelog_section() {
    for (part, next) in [("patch", "1.2.4"), ("minor", "1.3.0"), ("major", "2.0.0")] {
        let folder = workspace();
        let done = bump(folder.path(), part);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8_lossy(&done.stdout), format!("1.2.3 → {next}\n"));
        assert_eq!(version(folder.path()), next);
        // The document contains the version, so it is written after the version is raised.
        let document = fs::read_to_string(folder.path().join("server_openapi")).expect("written");
        assert_eq!(document, format!("{next}\n"));
        let changelog = fs::read_to_string(folder.path().join("CHANGELOG.md")).expect("read");
        let start = format!("# Changelog\n\n## [Unreleased]\n\n## [{next}] - 2");
        assert!(
            changelog.starts_with(&start) && changelog.ends_with("\n\n- news\n"),
            "{changelog}"
        );
        let lock = fs::read_to_string(folder.path().join("fuzz/engine/Cargo.lock")).expect("read");
        assert_eq!(lock, fuzzer_lock(next));
    }
}

#[test]
fn bump_refuses_an_unknown_part_and_lists_the_valid_ones() {
    for part in ["huge", ""] {
        let folder = workspace();
        let done = bump(folder.path(), part);
        assert_eq!(done.status.code(), Some(2));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(said.contains("make bump PART=patch"), "{said}");
        let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).expect("read");
        assert!(manifest.contains("1.2.3"));
    }
}

#[test]
fn bump_without_a_part_reports_what_is_missing() {
    // Never with a part here: it would raise the version of the code under test.
    let mut make = Command::new("make");
    make.arg("bump").current_dir(ROOT).env_remove("PART").env_remove("MAKEFLAGS");
    let done = make.output().expect("run make");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("PART=minor"), "{said}");
}

#[test]
fn bump_refuses_a_changelog_without_its_heading() {
    let folder = workspace();
    fs::write(folder.path().join("CHANGELOG.md"), "# Changelog\n").expect("write");
    assert_eq!(bump(folder.path(), "patch").status.code(), Some(1));
    let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).expect("read");
    assert!(manifest.contains("1.2.3"));
}

#[test]
fn every_crate_inherits_the_workspace_version() {
    let root = Path::new(ROOT);
    let text = fs::read_to_string(root.join("Cargo.toml")).expect("read");
    let manifest: toml::Table = toml::from_str(&text).expect("TOML");
    let members = manifest["workspace"]["members"].as_array().expect("a list");
    for member in members {
        let member = member.as_str().expect("a path");
        let text = fs::read_to_string(root.join(member).join("Cargo.toml")).expect("read");
        let manifest: toml::Table = toml::from_str(&text).expect("TOML");
        let is_shared = manifest["package"]["version"].get("workspace").is_some();
        assert!(is_shared, "{member} has a version of its own");
    }
}
