//! The host's allow-list of scripts: `script_manifest.json`.

mod check;
mod mismatch;

use serde::{Deserialize, Serialize};

pub use self::check::is_script_name;
pub use self::mismatch::ManifestMismatch;
use crate::limits::MAX_MANIFEST_SCRIPTS;
use crate::object::{self, ObjectError};
use crate::parameter::secret_parameters::{SecretDelivery, SecretParameters};
use crate::parameter::{self, AcceptedParameters, ParameterDeclaration, Parameters};

/// The scripts that a host allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub scripts: Vec<Script>,
}

/// One script that may be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The name that callers use: 1 to 128 of letters, digits, `.`, `_`, `-`, without a dot at the start.
    pub name: String,
    /// Relative to the scripts folder; must not leave it by `..` or a link.
    pub path: String,
    /// Program that runs the file; without it the file itself is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Arguments after the path, passed unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Parameters of the script: a list, or `"any"`. Absent: none are accepted.
    #[serde(default, skip_serializing_if = "AcceptedParameters::is_none")]
    pub parameters: AcceptedParameters,
    /// How the script receives its secret parameters: `environment` (default) or `file`.
    #[serde(default, skip_serializing_if = "SecretDelivery::is_environment")]
    pub secrets: SecretDelivery,
    /// It reads standard input, which callers may send. Absent: they may not, and it reads an empty one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// Timeout in milliseconds. A caller can shorten it but not extend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Hex SHA-256 that the file must have when it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// A description for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Why a manifest is rejected, for the person who edits it.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("line {line}, column {column}: {message}")]
    Syntax { line: usize, column: usize, message: String },
    #[error("script `{script}`: {message}")]
    Script { script: String, message: String },
    #[error("more than {MAX_MANIFEST_SCRIPTS} scripts")]
    TooMany,
}

impl Manifest {
    /// Parses and checks a manifest. Opens no file: the host checks whether a path leaves the
    /// folder by a link when it starts the script.
    ///
    /// # Errors
    /// [`ManifestError`] with line and reason, or script and reason.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = object::read(text).map_err(|refused| {
            let ObjectError { line, column, message } = refused;
            ManifestError::Syntax { line, column, message }
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The script of this name.
    pub fn script(&self, name: &str) -> Option<&Script> {
        self.scripts.iter().find(|script| script.name == name)
    }

    /// Names of the scripts that take any parameter.
    pub fn scripts_with_any_parameters(&self) -> impl Iterator<Item = &str> {
        let any = |script: &&Script| script.parameters == AcceptedParameters::Any;
        self.scripts.iter().filter(any).map(|script| script.name.as_str())
    }

    /// The requested script, if it exists and accepts these parameters and this input. The server checks this
    /// before it queues a command, and the host checks it again before it starts the script.
    ///
    /// # Errors
    /// [`ManifestMismatch::UnknownScript`], [`ManifestMismatch::Parameters`] or
    /// [`ManifestMismatch::StdinNotAllowed`].
    pub fn allowed_script(
        &self,
        name: &str,
        parameters: &Parameters,
        secrets: &SecretParameters,
        has_stdin: bool,
    ) -> Result<&Script, ManifestMismatch> {
        let script = self.script(name).ok_or_else(|| ManifestMismatch::unknown_script(name))?;
        parameter::check_accepted(parameters, secrets, &script.parameters)?;
        match has_stdin && !script.stdin {
            true => Err(ManifestMismatch::stdin_not_allowed(name)),
            false => Ok(script),
        }
    }

    /// Memory that the manifest takes, in bytes: several times its text.
    pub fn memory_bytes(&self) -> usize {
        let text = |text: &String| text.len() + size_of::<String>();
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let declaration = |declared: &ParameterDeclaration| {
            size_of::<ParameterDeclaration>()
                + declared.name.len()
                + optional(&declared.default)
                + optional(&declared.description)
                + declared.choices.iter().map(text).sum::<usize>()
        };
        let script = |script: &Script| {
            size_of::<Script>()
                + script.name.len()
                + script.path.len()
                + optional(&script.interpreter)
                + optional(&script.sha256)
                + optional(&script.description)
                + script.args.iter().map(text).sum::<usize>()
                + script.parameters.declared().iter().map(declaration).sum::<usize>()
        };
        size_of::<Self>() + self.scripts.iter().map(script).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn format_of_the_first_agents_is_accepted() {
        let manifest = Manifest::parse(r#"{"scripts":[{"name":"hello","path":"hello_world.py"}]}"#)
            .expect("valid");
        assert_eq!(
            manifest.script("hello").map(|script| script.path.as_str()),
            Some("hello_world.py")
        );
    }

    #[test]
    fn malformed_file_is_rejected_with_line_and_reason() {
        let error =
            Manifest::parse("{\n  \"scripts\": [\n    {\"name\": 7}\n  ]\n}").expect_err("broken");
        let text = error.to_string();
        assert!(text.starts_with("line 3, column"), "{text}");
        assert!(text.contains("expected a string"), "{text}");
    }

    #[test]
    fn paths_that_leave_the_folder_are_rejected() {
        for path in ["../x", "/etc/passwd", "a/../../b", "", "a\\b"] {
            let text = serde_json::json!({"scripts": [{"name": "x", "path": path}]}).to_string();
            assert!(Manifest::parse(&text).is_err(), "{path}");
        }
    }

    #[test]
    fn error_for_any_manifest_fits_in_a_frame() {
        let long = "x".repeat(400_000);
        for text in [
            format!(r#"{{"scripts":[{{"name":"x","path":"/{long}"}}]}}"#),
            format!(r#"{{"scripts":[{{"name":"x","path":"x","{long}":1}}]}}"#),
            format!(r#"{{"scripts":[{{"name":"{long}","path":"x"}}]}}"#),
        ] {
            let refused = Manifest::parse(&text).expect_err("refused").to_string();
            assert!(refused.chars().count() < 1_000, "{refused}");
        }
    }

    #[test]
    fn parameters_are_absent_a_list_or_the_word_any() {
        let parse = |parameters: &str| {
            let text = format!(r#"{{"scripts":[{{"name":"x","path":"x"{parameters}}}]}}"#);
            Manifest::parse(&text).map(|manifest| {
                let accepted = manifest.scripts[0].parameters.clone();
                let text = serde_json::to_string(&manifest).expect("JSON");
                assert_eq!(Manifest::parse(&text).expect("its own form"), manifest);
                (accepted.is_none(), manifest.scripts_with_any_parameters().count())
            })
        };
        assert_eq!(parse("").expect("absent"), (true, 0));
        assert_eq!(parse(r#","parameters":[]"#).expect("empty"), (true, 0));
        assert_eq!(parse(r#","parameters":[{"name":"A"}]"#).expect("list"), (false, 0));
        assert_eq!(parse(r#","parameters":"any""#).expect("any"), (false, 1));
        for wrong in [r#""all""#, "null", "true", r#"{"A":1}"#, r#"["A"]"#, r#"[{"nam":"A"}]"#] {
            let error = parse(&format!(r#","parameters":{wrong}"#)).expect_err(wrong).to_string();
            assert!(error.starts_with("line 1, column "), "{error}");
        }
    }

    #[test]
    fn secrets_are_delivered_in_the_environment_or_as_files() {
        let parse = |secrets: &str| {
            let text = format!(r#"{{"scripts":[{{"name":"x","path":"x"{secrets}}}]}}"#);
            Manifest::parse(&text).map(|manifest| {
                let text = serde_json::to_string(&manifest).expect("JSON");
                assert_eq!(Manifest::parse(&text).expect("its own form"), manifest);
                manifest.scripts[0].secrets
            })
        };
        assert_eq!(parse("").expect("absent"), SecretDelivery::Environment);
        assert_eq!(parse(r#","secrets":"file""#).expect("file"), SecretDelivery::File);
        parse(r#","secrets":"folder""#).expect_err("another word");
    }

    #[test]
    fn manifest_must_be_an_object_and_not_a_list() {
        let refused = Manifest::parse("[[]]").expect_err("a list").to_string();
        assert_eq!(refused, "line 1, column 1: expected an object, not a list");
    }

    #[test]
    fn texts_and_lists_of_a_script_are_bounded() {
        let long = |length: usize| "x".repeat(length);
        let named = |count: usize| -> Vec<_> {
            (0..count).map(|n| serde_json::json!({"name": format!("P{n}")})).collect()
        };
        let choices = |count: usize, choice: &str| serde_json::json!([{"name": "A", "choices": vec![choice; count]}]);
        for (field, fits, too_much) in [
            ("description", long(1_024).into(), long(1_025).into()),
            ("interpreter", long(4_096).into(), long(4_097).into()),
            ("path", long(4_096).into(), long(4_097).into()),
            ("args", vec![""; 1_024].into(), vec![""; 1_025].into()),
            ("args", vec![long(65_536)].into(), vec![long(65_537)].into()),
            ("parameters", named(256).into(), named(257).into()),
            ("parameters", choices(256, "a"), choices(257, "a")),
            ("parameters", choices(1, "a"), choices(1, "a\u{1b}")),
        ] {
            let parse = |value: &serde_json::Value| {
                let mut script = serde_json::json!({"name": "x", "path": "x"});
                script[field] = value.clone();
                Manifest::parse(&serde_json::json!({"scripts": [script]}).to_string()).is_ok()
            };
            assert!(parse(&fits) && !parse(&too_much), "{field}");
        }
    }

    #[test]
    fn memory_is_weighed_by_what_the_parsed_form_takes() {
        let entries: Vec<_> =
            (0..1_000).map(|n| serde_json::json!({"name": n.to_string(), "path": "x"})).collect();
        let text = serde_json::json!({"scripts": entries}).to_string();
        let manifest = Manifest::parse(&text).expect("valid");
        assert!(manifest.memory_bytes() > 1_000 * size_of::<Script>());
        assert!(manifest.memory_bytes() > 3 * text.len());
    }

    proptest! {
        #[test]
        fn parsing_arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = Manifest::parse(&text);
        }
    }
}
