//! Scripts of the server's library: what a version is, and how a host checks what a server sends.
//!
//! A version is a document (JSON, [`ScriptDocument`]) and a body, the text of the script. The document
//! names the SHA-256 of the body; a command names the SHA-256 of the document. So a person who pins a command,
//! as an approver does, pins everything that runs.

mod call;
mod content;
mod node_packages;
mod parameter;
mod reference;
mod rehearsal;
mod requirements;
mod signature;

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub use self::call::{
    CallDataProblem, CallPart, CallReport, MAX_CALL_DATA_BYTES, TriggerCall, check_call_data,
};
pub use self::content::{ContentError, MAX_SIGNATURES, ScriptContent, ScriptPin};
pub use self::node_packages::{MAX_NODE_PACKAGES, plain_node_packages};
pub use self::parameter::{
    MAX_FILE_BYTES, MAX_PATTERN_BYTES, ParameterKind, ScriptParameter, file_bytes,
};
pub use self::reference::{LIBRARY_PREFIX, LibraryReference, is_runnable_name, ruled_name};
pub use self::rehearsal::{Leak, LeakPlace, MAX_LEAKS, Rehearsal};
pub use self::requirements::{MAX_REQUIREMENTS_BYTES, check_requirements, plain_requirements};
pub use self::signature::{
    MAX_SIGNATURE_BYTES, MAX_SIGNATURE_LIFETIME_MS, STATEMENT_FORMAT, ScriptSignature,
    SignatureError, SignedScript, Statement, find_valid,
};
pub(crate) use self::signature::{check_expiry, find_statement};
use crate::commands::file_transfer::is_sha256;
use crate::limits::MAX_TIMEOUT_MS;
use crate::parameter::secret_parameters::SecretParameters;
use crate::parameter::{
    AcceptedParameters, MAX_PARAMETERS, ParameterError, Parameters, check_accepted,
};

/// The capability of an agent that runs scripts of the library.
pub const CAPABILITY: &str = "library";
/// The policies of hosts that allow it.
pub const POLICIES: [&str; 2] = ["library", "shell"];
/// The format of a document.
pub const DOCUMENT_FORMAT: u32 = 1;
/// Largest body of a script, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 256 * 1024;
/// Largest document of a version, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Longest interpreter, in bytes.
pub const MAX_INTERPRETER_BYTES: usize = 256;
/// The highest number of a version.
pub const MAX_VERSION_NUMBER: u32 = 1_000_000;

/// Everything that decides what a version runs. It is stored and sent as one text, and hashed as this
/// text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptDocument {
    pub format: u32,
    /// Without the prefix `library:`.
    pub name: String,
    /// The number of the version, from 1.
    pub version: u32,
    /// Hex SHA-256 of the body.
    pub sha256: String,
    /// `sh`, `bash`, `python`, `node`, `powershell`, the name of another program, or its full path.
    pub interpreter: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ScriptParameter>,
    /// A caller can shorten it but not extend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The script has a trigger, which decides in each call whether main runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_trigger: bool,
    /// A `requirements.txt` for `python`, or a `package.json` for `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<String>,
}

impl ScriptDocument {
    /// The text that is stored, sent and hashed.
    pub fn to_text(&self) -> String {
        // Plain data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Checks everything that does not depend on the body.
    ///
    /// # Errors
    /// The field, and a problem as the end of a sentence about it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let refused = |field: &str, problem: &str| Err((field.to_owned(), problem.to_owned()));
        if self.format != DOCUMENT_FORMAT {
            return refused("format", "is not known to this program");
        }
        if !crate::manifest::is_script_name(&self.name) {
            return refused(
                "name",
                "must be 1 to 128 of letters, digits, `.`, `_`, `-`, and must not start with a dot",
            );
        }
        if !(1..=MAX_VERSION_NUMBER).contains(&self.version) {
            return refused("version", "must be 1 to 1000000");
        }
        // Hosts name files by it.
        if !is_sha256(&self.sha256) {
            return refused("sha256", "must be 64 hexadecimal digits in lower case");
        }
        if !is_interpreter(&self.interpreter) {
            return refused(
                "interpreter",
                "must be the name of a program or its full path, of letters, digits, `.`, `_`, `+`, `-` and `/`",
            );
        }
        if self.timeout_ms.is_some_and(|timeout| timeout == 0 || timeout > MAX_TIMEOUT_MS) {
            return refused("timeout_ms", "must be at least 1 and at most 7 days");
        }
        if let Some(requirements) = &self.requirements
            && let Err(problem) = installed_text(&self.interpreter, requirements)
        {
            return refused("requirements", problem);
        }
        if self.parameters.len() > MAX_PARAMETERS {
            return refused("parameters", "must be at most 256");
        }
        let mut names = BTreeSet::new();
        for (n, parameter) in self.parameters.iter().enumerate() {
            let field = |problem: String| (format!("parameters[{n}]"), problem);
            parameter.check().map_err(field)?;
            if !names.insert(&parameter.name) {
                return Err(field(format!("repeats `{}`", parameter.name)));
            }
        }
        if self.to_text().len() > MAX_DOCUMENT_BYTES {
            return refused("parameters", "are too large: with all texts at most 64 KiB");
        }
        Ok(())
    }

    /// The parameters as hosts' manifests declare them.
    pub fn accepted(&self) -> AcceptedParameters {
        AcceptedParameters::Declared(
            self.parameters.iter().map(ScriptParameter::declared).collect(),
        )
    }

    /// Checks the values of a request against the parameters, with their types and patterns.
    ///
    /// # Errors
    /// [`ParameterError`] names the first rejected parameter, never its value.
    pub fn check_values(
        &self,
        parameters: &Parameters,
        secrets: &SecretParameters,
    ) -> Result<(), ParameterError> {
        check_accepted(parameters, secrets, &self.accepted()).map_err(|error| match error {
            // The library is no file of the host.
            ParameterError::Undeclared { name, .. } => ParameterError::NotOfVersion(name),
            error => error,
        })?;
        ScriptParameter::check_values(&self.parameters, parameters, secrets)
    }
}

/// True for a valid folder of scripts, apart from its length: empty, or names of scripts with `/` between
/// them.
pub fn is_script_folder(folder: &str) -> bool {
    folder.is_empty() || folder.split('/').all(crate::manifest::is_script_name)
}

/// Hex SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// Checks a body.
///
/// # Errors
/// A problem as the end of a sentence about it.
pub fn check_body(body: &str) -> Result<(), &'static str> {
    if body.is_empty() {
        return Err("must not be empty");
    }
    if body.len() > MAX_SCRIPT_BYTES {
        return Err("must be at most 256 KiB");
    }
    // Each of them takes six bytes in a frame, and no interpreter needs one.
    let is_strange =
        |char: char| char.is_control() && !matches!(char, '\n' | '\r' | '\t' | '\u{c}');
    if body.contains(is_strange) {
        return Err("must be text without control characters, except tabs and line breaks");
    }
    Ok(())
}

fn is_interpreter(text: &str) -> bool {
    let is_word =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-');
    let is_valid = |byte: u8| is_word(byte) || (text.starts_with('/') && byte == b'/');
    (1..=MAX_INTERPRETER_BYTES).contains(&text.len())
        && text.bytes().all(is_valid)
        && !text.starts_with(['-', '.', '+'])
        && !text.ends_with('/')
        && !text.split('/').any(|part| part == "..")
}

/// The packages that a script needs, as the installer of its interpreter reads them.
///
/// # Errors
/// A problem as the end of a sentence about the requirements.
pub fn installed_text(interpreter: &str, requirements: &str) -> Result<String, &'static str> {
    match interpreter {
        "python" => plain_requirements(requirements),
        "node" => plain_node_packages(requirements),
        _ => Err("need the interpreter `python` or `node`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn document() -> ScriptDocument {
        ScriptDocument {
            format: DOCUMENT_FORMAT,
            name: "disk-report".into(),
            version: 3,
            sha256: sha256_hex(b"echo hi\n"),
            interpreter: "sh".into(),
            parameters: vec![
                ScriptParameter {
                    kind: ParameterKind::Integer,
                    default: Some("5".into()),
                    ..ScriptParameter::named("LINES")
                },
                ScriptParameter {
                    pattern: Some("[a-z]+".into()),
                    required: true,
                    ..ScriptParameter::named("WHO")
                },
            ],
            timeout_ms: None,
            has_trigger: false,
            requirements: None,
        }
    }

    #[test]
    fn a_document_names_the_field_that_breaks_a_rule() {
        assert_eq!(document().check(), Ok(()));
        let field = |change: fn(&mut ScriptDocument)| {
            let mut changed = document();
            change(&mut changed);
            changed.check().expect_err("refused").0
        };
        assert_eq!(field(|document| document.name = "a/b".into()), "name");
        for name in [".", "..", ".git", ""] {
            let named = ScriptDocument { name: name.into(), ..document() };
            assert_eq!(named.check().expect_err(name).0, "name");
        }
        assert_eq!(field(|document| document.version = 0), "version");
        assert_eq!(field(|document| document.timeout_ms = Some(0)), "timeout_ms");
        assert_eq!(field(|document| document.requirements = Some("six".into())), "requirements");
        assert_eq!(field(|document| document.parameters[1].name = "LINES".into()), "parameters[1]");
        assert_eq!(
            field(|document| document.parameters[0].default = Some("x".into())),
            "parameters[0]"
        );
        for wrong in ["", "-c", "a b", "bin/sh", "/usr/../sh", "/bin/", "sh;x"] {
            assert!(!is_interpreter(wrong), "{wrong}");
        }
        for right in ["sh", "python3.12", "/usr/bin/perl", "g++"] {
            assert!(is_interpreter(right), "{right}");
        }
    }

    #[test]
    fn a_folder_has_no_way_out_and_no_hidden_part() {
        for folder in ["", "a", "ops/disk.d", "a-b/c_d/e"] {
            assert!(is_script_folder(folder), "{folder}");
        }
        for folder in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", ".git", "a/.git/hooks", "a b"]
        {
            assert!(!is_script_folder(folder), "{folder}");
        }
    }

    #[test]
    fn values_are_checked_by_type_and_pattern_and_a_refusal_never_quotes_them() {
        let refusal = |values: &[(&str, &str)]| {
            let values = values.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            document().check_values(&values.collect(), &SecretParameters::default())
        };
        assert_eq!(refusal(&[("WHO", "me")]), Ok(()));
        assert_eq!(refusal(&[("WHO", "me"), ("LINES", "-12")]), Ok(()));
        assert_eq!(refusal(&[]), Err(ParameterError::Missing("WHO".into())));
        let undeclared = refusal(&[("WHO", "me"), ("X", "1")]);
        assert_eq!(undeclared, Err(ParameterError::NotOfVersion("X".into())));
        for (name, value) in [("LINES", "5 s3cret"), ("WHO", "S3cret"), ("WHO", "a\ns3cret")] {
            let mut values = vec![(name, value)];
            if name != "WHO" {
                values.push(("WHO", "me"));
            }
            let text = refusal(&values).expect_err("refused").to_string();
            assert!(text.contains(name) && !text.to_lowercase().contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn a_body_is_bounded_text() {
        assert_eq!(check_body("#!/bin/sh\n\techo ü\r\n"), Ok(()));
        assert_eq!(check_body(&"x".repeat(MAX_SCRIPT_BYTES)), Ok(()));
        for wrong in
            [String::new(), "a\0b".into(), "a\u{1b}b".into(), "x".repeat(MAX_SCRIPT_BYTES + 1)]
        {
            assert!(check_body(&wrong).is_err());
        }
    }
}
