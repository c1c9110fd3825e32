//! Scripts that a host allows: entries of its manifest with the files beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

/// A shell script with its manifest entry.
#[derive(Debug, Clone)]
pub struct Script {
    name: String,
    body: String,
    settings: Map<String, Value>,
}

impl Script {
    /// A script for `/bin/sh`.
    pub fn new(name: &str, body: &str) -> Self {
        Self { name: name.to_owned(), body: body.to_owned(), settings: Map::new() }
    }

    /// Sets a field of the manifest entry.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.settings.insert(field.to_owned(), value);
        self
    }

    /// Declares these parameters.
    pub fn taking<const N: usize>(self, names: [&str; N]) -> Self {
        self.with("parameters", names.iter().map(|name| json!({"name": name})).collect())
    }

    /// Prints numbered lines until it has printed `lines`, and pauses briefly after every `step`
    /// lines. Its output is [`Script::counted`].
    pub fn counting(name: &str, lines: u32, step: u32, rest_seconds: &str) -> Self {
        let body = format!(
            "i=0\nwhile [ $i -lt {lines} ]; do\n  i=$((i+1))\n  printf 'line %08d of the output\\n' $i\n  \
             [ $((i % {step})) -ne 0 ] || sleep {rest_seconds}\ndone\n"
        );
        Self::new(name, &body)
    }

    /// The output of [`Script::counting`].
    pub fn counted(lines: u32) -> Vec<u8> {
        (1..=lines).flat_map(|i| format!("line {i:08} of the output\n").into_bytes()).collect()
    }

    /// Runs these commands first.
    pub fn beginning_with(mut self, commands: &str) -> Self {
        self.body.insert_str(0, commands);
        self
    }

    fn file_name(&self) -> String {
        format!("{}.sh", self.name)
    }
}

/// Writes the files and the manifest into a state directory, replacing the manifest at once.
pub fn install(state_dir: &Path, scripts: &[Script]) {
    let folder = state_dir.join("scripts");
    fs::create_dir_all(&folder).expect("make the scripts folder");
    let entries: Vec<Value> = scripts
        .iter()
        .map(|script| {
            let file = folder.join(script.file_name());
            fs::write(&file, format!("#!/bin/sh\n{}", script.body)).expect("write a script");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("allow to run");
            let mut entry = script.settings.clone();
            entry.insert("name".into(), json!(script.name));
            entry.entry("path").or_insert_with(|| json!(script.file_name()));
            Value::Object(entry)
        })
        .collect();
    write_manifest(state_dir, &json!({ "scripts": entries }).to_string());
}

/// Puts a text in place of the manifest in one step.
pub fn write_manifest(state_dir: &Path, text: &str) {
    publish(state_dir, "script_manifest.json", text);
}

/// Puts a text in place of the policy in one step.
pub fn write_policy(state_dir: &Path, text: &str) {
    publish(state_dir, "policy.json", text);
}

fn publish(state_dir: &Path, name: &str, text: &str) {
    let draft = state_dir.join(format!("{name}.draft"));
    fs::write(&draft, text).expect("write a draft");
    fs::rename(&draft, state_dir.join(name)).expect("publish the draft");
}

/// Hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
