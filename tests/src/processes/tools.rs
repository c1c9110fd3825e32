//! Programs of other projects that check ours: what `scripts/install-test-tools.sh` installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::binaries::target;

/// The folder of tools that are written in `python` or `node`.
///
/// # Panics
/// If they are not installed.
pub fn test_tools(kind: &str) -> PathBuf {
    let folder = target().join("test-tools").join(kind);
    let remedy = "run scripts/install-test-tools.sh, or `make test`";
    assert!(folder.is_dir(), "{} is missing: {remedy}", folder.display());
    folder
}

/// Runs a program in a folder to its end, and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn run_tool(
    program: &Path,
    args: &[&str],
    environment: &[(&str, &str)],
    folder: &Path,
) -> String {
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
        .env("HOME", folder)
        // Tools that would report their use elsewhere.
        .envs([("REDOCLY_TELEMETRY", "off"), ("CI", "1"), ("NO_COLOR", "1")])
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("failed to start {}: {error}", program.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {args:?} failed:\n{text}", program.display());
    text
}
