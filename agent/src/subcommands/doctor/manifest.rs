//! The host's manifest, and whether each of its scripts could start now.

use std::io;
use std::path::Path;

use muster_protocol::manifest::Manifest;

use super::finding::{Check, Finding};
use crate::executions::shim::verify;
use crate::policy::{self, Policy, PolicyFile};
use crate::storage::layout::StateDir;

/// How many scripts that can't start are named.
const SHOWN: usize = 3;

/// Reads the manifest and checks the file of every script.
pub fn manifest(state: Option<&StateDir>) -> Finding {
    let check = Check::Manifest;
    let absent =
        || Finding::ok(check, "the manifest does not exist yet; the agent will write an example");
    let Some(state) = state else { return absent() };
    if state.manifest_seen().exists() && !state.manifest().exists() {
        let hint = format!("restore {}, or write one without scripts", state.manifest().display());
        return Finding::warn(check, "the manifest was deleted, so no script can run", hint);
    }
    let path = state.manifest();
    let correct = format!("correct {}; no script can run until then", path.display());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(),
        Err(error) => {
            return Finding::fail(check, format!("failed to read the manifest: {error}"), correct);
        }
    };
    let manifest = match Manifest::parse(&text) {
        Ok(manifest) => manifest,
        Err(error) => return Finding::fail(check, error.to_string(), correct),
    };
    let policy = PolicyFile::open(state);
    let forbidden = policy.current().map(Policy::forbidden_names).unwrap_or_default();
    let account = match policy.current() {
        Ok(policy) => policy.run_as.as_deref().map(policy::account).transpose(),
        Err(reason) => {
            let hint = format!("correct {}; nothing can run until then", state.policy().display());
            return Finding::fail(check, reason.to_owned(), hint);
        }
    };
    let account = match account {
        Ok(account) => account,
        Err(error) => {
            let hint = format!("correct {}", state.policy().display());
            return Finding::fail(check, error.to_string(), hint);
        }
    };
    let scripts = state.scripts();
    let bad = manifest.scripts.iter().filter_map(|script| {
        let looked = verify::startable(&scripts, script, account.as_ref());
        looked.err().map(|refusal| format!("`{}`: {refusal}", script.name))
    });
    let bad: Vec<String> = bad.collect();
    let count = manifest.scripts.len();
    if bad.is_empty() {
        return whole(&manifest, &forbidden, &path);
    }
    let more = match bad.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let shown = bad.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    Finding::fail(
        check,
        format!("{} of {count} {} can't run: {shown}{more}", bad.len(), plural(count)),
        format!("correct the files, or change {}", path.display()),
    )
}

/// The finding for a manifest whose scripts can all start.
fn whole(manifest: &Manifest, forbidden: &[String], path: &Path) -> Finding {
    let count = manifest.scripts.len();
    let forbids = match forbidden {
        [] => String::new(),
        names => format!("; the policy forbids the server: {}", names.join(", ")),
    };
    let detail = format!("{count} {}{forbids}", plural(count));
    let any: Vec<_> = manifest.scripts_with_any_parameters().collect();
    if any.is_empty() {
        return Finding::ok(Check::Manifest, detail);
    }
    let shown: Vec<_> = any.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = match any.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Finding::warn(
        Check::Manifest,
        format!("{detail}; any parameter is accepted by {}{more}", shown.join(", ")),
        format!("list the parameters of these scripts in {}", path.display()),
    )
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "script" } else { "scripts" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subcommands::doctor::finding::CheckStatus;

    #[test]
    fn scripts_that_take_any_parameter_are_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let script = state.scripts().join("a.sh");
        std::fs::write(&script, "#!/bin/sh\n").expect("written");
        let write = |parameters: &str| {
            let text = format!(
                r#"{{"scripts":[{{"name":"free","path":"a.sh","interpreter":"/bin/sh"{parameters}}}]}}"#
            );
            std::fs::write(state.manifest(), text).expect("written");
            manifest(Some(&state))
        };
        assert_eq!(write("").status, CheckStatus::Ok);
        std::fs::write(state.policy(), r#"{"forbid":["shutdown"]}"#).expect("written");
        let finding = write("");
        assert_eq!(finding.status, CheckStatus::Ok);
        assert_eq!(finding.detail, "1 script; the policy forbids the server: shutdown");
        let finding = write(r#","parameters":"any""#);
        assert_eq!(finding.status, CheckStatus::Warn, "{finding:?}");
        assert!(finding.detail.contains("`free`"), "{finding:?}");
    }
}
