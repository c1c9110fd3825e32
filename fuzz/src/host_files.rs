//! The files that a host's owner writes by hand: an error names the place, an accepted file is
//! safe.

use std::collections::BTreeSet;

use muster_agent::policy::Policy;
use muster_protocol::limits::{MAX_MANIFEST_SCRIPTS, MAX_TIMEOUT_MS};
use muster_protocol::manifest::{Manifest, ManifestError, Script};

pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Manifest::parse(text) {
        Ok(manifest) => {
            assert!(manifest.scripts.len() <= MAX_MANIFEST_SCRIPTS);
            manifest.scripts.iter().for_each(check_script);
            let names: BTreeSet<_> = manifest.scripts.iter().map(|script| &script.name).collect();
            assert_eq!(names.len(), manifest.scripts.len(), "two scripts of one name");
            let written = serde_json::to_string(&manifest).expect("plain data");
            assert!(written.len() <= text.len() + "{\"scripts\":[]}".len(), "it grows: {written}");
            assert_eq!(Manifest::parse(&written).expect("just written"), manifest);
        }
        Err(refusal) => {
            super::check_refusal(&refusal);
            if let ManifestError::Syntax { line, column, .. } = refusal {
                check_place(text, line, column);
            }
        }
    }
}

/// An accepted script stays in its folder, and contains no NUL byte.
fn check_script(script: &Script) {
    assert!(!script.path.starts_with('/') && !script.path.split('/').any(|part| part == ".."));
    assert!(script.path.split('/').any(|part| !part.is_empty()), "no path at all");
    assert!(script.args.iter().chain([&script.path]).all(|text| !text.contains('\0')));
    assert!(script.timeout_ms.is_none_or(|timeout| (1..=MAX_TIMEOUT_MS).contains(&timeout)));
    assert!((1..=128).contains(&script.name.len()) && script.name.is_ascii());
}

pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Policy::parse(text) {
        Ok(policy) => {
            let value: serde_json::Value = serde_json::from_str(text).expect("it was read");
            let allowed = value.get("allow").and_then(|word| word.as_str()).unwrap_or("manifest");
            assert_eq!(policy.allow.as_str(), allowed);
            assert_eq!(
                policy.run_as.as_deref(),
                value.get("run_as").and_then(|name| name.as_str())
            );
        }
        Err(reason) => {
            let length = reason.chars().count();
            assert!(length <= super::MAX_REFUSAL_CHARS, "{length} characters: {reason:.200}");
        }
    }
}

/// A reported position is in the text, or right after it.
fn check_place(text: &str, line: usize, column: usize) {
    let lines = text.split('\n').count();
    assert!(line <= lines, "line {line} of {lines}");
    let length = text.split('\n').nth(line.saturating_sub(1)).map_or(0, str::len);
    assert!(column <= length + 1, "column {column} of {length}");
}
