//! `execute` of a transfer: the host reads and writes only files in the folders that its policy lists. The
//! path is resolved again, link by link, by the process that opens the file.

use muster_protocol::commands::file_transfer::{FILE_PREFIX, FileOperation, FileTransfer};
use serde::Deserialize as _;
use serde_json::Value;

use super::execute::{ExecuteRefusal, OutputLimits, request_of};
use super::file_refusal::FileRefusal;
use crate::executions::ledger::record::{FileLaunch, Launch};
use crate::policy::Policy;
use crate::policy::file_rules::FileRules;

/// True if a command is a transfer, valid or not.
pub fn is_requested(data: &Value) -> bool {
    data.get("script").and_then(Value::as_str).is_some_and(|name| name.starts_with(FILE_PREFIX))
}

/// Checks a request against what the host permits.
///
/// # Errors
/// [`ExecuteRefusal`] with a message that says what to do.
pub fn plan(data: &Value, policy: &Policy, bounds: OutputLimits) -> Result<Launch, ExecuteRefusal> {
    let request = request_of(data)?;
    let malformed = |text: &str| FileRefusal::Malformed(text.to_owned());
    let script = request.script.unwrap_or_default();
    let operation =
        FileOperation::of(&script).ok_or_else(|| malformed("send `file:push` or `file:pull`"))?;
    let is_alone = request.argv.is_none()
        && request.stdin.is_none()
        && request.parameters.is_empty()
        && request.secret_parameters.is_empty();
    if !is_alone {
        return Err(malformed("it has parameters, input or a program").into());
    }
    let file = data.get("file").ok_or_else(|| malformed("send `file`"))?;
    // Unlike elsewhere, a field that this agent does not know is refused: it may be a restriction.
    let transfer =
        FileTransfer::deserialize(file).map_err(|error| malformed(&error.to_string()))?;
    transfer.check(operation).map_err(FileRefusal::from)?;
    let rules = policy.files.as_ref().filter(|rules| !rules.roots(operation).is_empty());
    let rules = rules.ok_or(FileRefusal::NotAllowed(operation))?;
    let file = allowed(&transfer, operation, rules, bounds)?;
    Ok(Launch {
        sha256: file.sha256.clone(),
        script: Some(script),
        file: Some(Box::new(file)),
        timeout_ms: request.timeout_ms.unwrap_or(muster_protocol::limits::DEFAULT_TIMEOUT_MS),
        ..Launch::empty(policy.allow, bounds)
    })
}

fn allowed(
    transfer: &FileTransfer,
    operation: FileOperation,
    rules: &FileRules,
    bounds: OutputLimits,
) -> Result<FileLaunch, FileRefusal> {
    let outside = || FileRefusal::Outside { path: transfer.path.clone(), operation };
    let (root, path) = rules.root_of(operation, &transfer.path).ok_or_else(outside)?;
    let max_bytes = match operation {
        FileOperation::Push => rules.max_bytes(),
        // A pulled file is output, of which the host keeps so much.
        FileOperation::Pull => rules.max_bytes().min(bounds.limit_bytes),
    };
    let bytes = match operation {
        FileOperation::Push => Some(transfer.bytes.unwrap_or(u64::MAX)),
        FileOperation::Pull => None,
    };
    if let Some(bytes) = bytes.filter(|bytes| *bytes > max_bytes) {
        return Err(FileRefusal::TooLarge { bytes, most_bytes: max_bytes });
    }
    let mode = transfer.mode_bits();
    if mode.is_some_and(|mode| mode & !rules.max_mode() != 0) {
        return Err(FileRefusal::Mode { most: rules.max_mode() });
    }
    if let Some(owner) = transfer.owner.as_ref().filter(|owner| !rules.owners.contains(*owner)) {
        return Err(FileRefusal::Owner(owner.clone()));
    }
    Ok(FileLaunch {
        operation,
        root: root.to_owned(),
        path: path.to_owned(),
        sha256: transfer.sha256.clone(),
        bytes,
        mode,
        max_mode: rules.max_mode(),
        owner: transfer.owner.clone(),
        max_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POLICY: &str = r#"{"files": {"read": ["/var/log"], "write": ["/srv"], "max_bytes": 10,
        "max_mode": "0755", "owners": ["web"]}}"#;

    fn planned(policy: &str, script: &str, file: Value) -> Result<FileLaunch, &'static str> {
        let policy = Policy::parse(policy).expect("valid");
        let bounds = OutputLimits { limit_bytes: 5, quota_bytes: 6 };
        let launch = plan(&json!({"script": script, "file": file}), &policy, bounds);
        launch.map(|launch| *launch.file.expect("a transfer")).map_err(|refusal| refusal.code())
    }

    fn push(more: Value) -> Value {
        let mut file = json!({"path": "/srv/a", "sha256": "0".repeat(64), "bytes": 10});
        for (name, value) in more.as_object().expect("an object") {
            file[name] = value.clone();
        }
        file
    }

    #[test]
    fn a_host_transfers_only_what_its_policy_lists() {
        let file = planned(POLICY, "file:push", push(json!({"mode": "750", "owner": "web"})));
        let file = file.expect("allowed");
        assert_eq!((file.root.as_str(), file.path.as_str()), ("/srv", "a"));
        assert_eq!((file.mode, file.owner.as_deref()), (Some(0o750), Some("web")));
        let file = planned(POLICY, "file:pull", json!({"path": "/var/log/a/b"})).expect("allowed");
        assert_eq!((file.path.as_str(), file.max_bytes), ("a/b", 5));
        for policy in ["{}", r#"{"allow": "shell"}"#, r#"{"files": {}}"#] {
            let refused = planned(policy, "file:push", push(json!({}))).err();
            assert_eq!(refused, Some("files_not_allowed"), "{policy}");
        }
        let only_read = r#"{"files": {"read": ["/srv"]}}"#;
        let refused = planned(only_read, "file:push", push(json!({}))).err();
        assert_eq!(refused, Some("files_not_allowed"));
    }

    #[test]
    fn a_transfer_beyond_the_policy_is_refused_with_a_stable_code() {
        for (more, code) in [
            (json!({"path": "/etc/passwd"}), "path_not_allowed"),
            (json!({"path": "/srvx/a"}), "path_not_allowed"),
            (json!({"path": "/var/log/a"}), "path_not_allowed"),
            (json!({"path": "/srv/../etc/passwd"}), "invalid_data"),
            (json!({"bytes": 11}), "file_too_large"),
            (json!({"bytes": null}), "file_too_large"),
            (json!({"mode": "0777"}), "mode_not_allowed"),
            (json!({"mode": "4755"}), "invalid_data"),
            (json!({"owner": "root"}), "owner_not_allowed"),
            (json!({"sha256": "x"}), "invalid_data"),
            (json!({"only_if": "absent"}), "invalid_data"),
        ] {
            assert_eq!(
                planned(POLICY, "file:push", push(more.clone())).err(),
                Some(code),
                "{more}"
            );
        }
        assert_eq!(planned(POLICY, "file:move", push(json!({}))).err(), Some("invalid_data"));
        assert_eq!(planned(POLICY, "file:pull", push(json!({}))).err(), Some("invalid_data"));
    }
}
