//! What a script of Node needs: the dependencies of a `package.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::requirements::MAX_REQUIREMENTS_BYTES;

/// Most packages of it.
pub const MAX_NODE_PACKAGES: usize = 256;
/// Longest name of a package, and longest version.
const MAX_NODE_NAME_BYTES: usize = 214;

/// The parts of a `package.json` that decide what is installed. The others are for other programs.
#[derive(Deserialize)]
struct PackageFile {
    #[serde(default)]
    dependencies: BTreeMap<String, String>,
    overrides: Option<serde_json::Value>,
    workspaces: Option<serde_json::Value>,
    #[serde(rename = "optionalDependencies")]
    optional_dependencies: Option<serde_json::Value>,
    #[serde(rename = "bundleDependencies")]
    bundle_dependencies: Option<serde_json::Value>,
}

/// A `package.json` with the dependencies alone, so that the installer reads only what was checked. They name
/// packages and versions, and no addresses, paths or repositories: the host decides where packages come from.
///
/// # Errors
/// A problem as the end of a sentence about it.
pub fn plain_node_packages(text: &str) -> Result<String, &'static str> {
    if text.len() > MAX_REQUIREMENTS_BYTES {
        return Err("must be at most 16 KiB");
    }
    let file: PackageFile =
        serde_json::from_str(text).map_err(|_| "must be a package.json: a JSON object")?;
    let others =
        [&file.overrides, &file.workspaces, &file.optional_dependencies, &file.bundle_dependencies];
    if others.iter().any(|other| other.is_some()) {
        return Err(
            "must not have `overrides`, `workspaces`, `optionalDependencies` or `bundleDependencies`",
        );
    }
    if file.dependencies.is_empty() || file.dependencies.len() > MAX_NODE_PACKAGES {
        return Err("must have 1 to 256 `dependencies`");
    }
    if !file.dependencies.keys().all(|name| is_name(name)) {
        return Err("must name packages as the registry does, such as `left-pad` or `@scope/name`");
    }
    if !file.dependencies.values().all(|version| is_version(version)) {
        return Err("must have versions such as `1.2.3` or `^1.2`, not addresses, paths or files");
    }
    Ok(json!({ "private": true, "dependencies": file.dependencies }).to_string())
}

fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|char: char| char.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let parts = match name.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').map(|(scope, name)| [scope, name]),
        None => Some([name, name]),
    };
    name.len() <= MAX_NODE_NAME_BYTES && parts.is_some_and(|parts| parts.into_iter().all(is_part))
}

/// A version, a range of versions, or a tag. The installer takes what begins with a dot, has a slash or a
/// colon, or ends as an archive does, for something else.
fn is_version(version: &str) -> bool {
    let lower = version.to_ascii_lowercase();
    let is_archive = [".tgz", ".tar", ".tar.gz"].iter().any(|ending| lower.ends_with(ending));
    !version.trim().is_empty()
        && version.len() <= MAX_NODE_NAME_BYTES
        && version.chars().all(|char| char.is_ascii_alphanumeric() || " .-+*^~<>=|".contains(char))
        && !version.starts_with(['.', ' '])
        && !is_archive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, version: &str) -> String {
        json!({ "dependencies": { name: version } }).to_string()
    }

    #[test]
    fn only_the_dependencies_reach_the_installer() {
        let text = r#"{"name": "x", "scripts": {"preinstall": "evil"}, "devDependencies": {"y": "1"},
            "dependencies": {"b": "^1.2", "@a/c-d": "1.0.0 - 2 || >=3"}}"#;
        let plain = r#"{"dependencies":{"@a/c-d":"1.0.0 - 2 || >=3","b":"^1.2"},"private":true}"#;
        assert_eq!(plain_node_packages(text).as_deref(), Ok(plain));
        for version in ["1.2.3", "latest", "*", "~1", "1.x", "1.0.0-beta.1+build"] {
            assert!(plain_node_packages(&with("a", version)).is_ok(), "{version}");
        }
    }

    #[test]
    fn dependencies_never_name_an_address_a_repository_or_a_file() {
        for version in [
            "",
            " ",
            "https://evil.example/x.tgz",
            "git+ssh://git@evil.example/x",
            "evil/x",
            "github:evil/x",
            "file:../x",
            "npm:other@1",
            "workspace:*",
            "../x",
            "./x",
            ".",
            "~/x",
            "x.tgz",
            "x.TAR.GZ",
            "a\\b",
            "1\n2",
        ] {
            assert!(plain_node_packages(&with("a", version)).is_err(), "{version}");
        }
        for name in ["", "../a", "a/b", "@a", "@/b", "@a/b/c", ".a", "_a", "a b", "@../b", "-g"] {
            assert!(plain_node_packages(&with(name, "1")).is_err(), "{name}");
        }
        for text in [
            "",
            "[]",
            "{}",
            r#"{"dependencies": {}}"#,
            r#"{"dependencies": {"a": 1}}"#,
            r#"{"dependencies": {"a": "1"}, "overrides": {"b": "file:../x"}}"#,
            r#"{"dependencies": {"a": "1"}, "workspaces": ["../x"]}"#,
            r#"{"dependencies": {"a": "1"}, "optionalDependencies": {"b": "file:x"}}"#,
        ] {
            assert!(plain_node_packages(text).is_err(), "{text}");
        }
        assert!(plain_node_packages(&with("a", &"1".repeat(MAX_REQUIREMENTS_BYTES))).is_err());
    }
}
