//! Parameters of a script: which ones it accepts, and checks of names and values.

mod accepted;
mod name;
pub mod secret;
pub mod secret_parameters;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::accepted::{ANY, AcceptedParameters};
pub use self::name::{MAX_NAME_BYTES, check_name, check_undeclared_name};
use crate::parameter::secret_parameters::SecretParameters;

/// Values by name. They become environment variables of the child.
pub type Parameters = BTreeMap<String, String>;

/// Longest value of a parameter, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Most parameters of one execution.
pub const MAX_PARAMETERS: usize = 256;

/// One parameter that a script declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ParameterDeclaration {
    /// The name of the environment variable.
    pub name: String,
    /// If true, a call without a value is rejected, unless there is a default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The value if the caller gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The allowed values; empty allows any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// True if the value must be sent as a secret: sealed where it is stored, masked where it would
    /// be shown. Other parameters may be sent as a secret too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Why parameters are rejected. Never contains a value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    #[error(
        "parameter name `{0}` is not a variable name: use letters, digits and `_`, not starting with a digit"
    )]
    Malformed(String),
    #[error(
        "parameter name `{0}` is reserved because it changes how programs start; choose another name"
    )]
    Reserved(String),
    #[error("parameter `{0}` is longer than 64 KiB or contains a NUL byte")]
    Value(String),
    #[error("more than {MAX_PARAMETERS} parameters")]
    TooMany,
    #[error("parameter `{0}` is given both as a parameter and as a secret; give it once")]
    Twice(String),
    #[error("parameter `{0}` is declared secret: send it in `secret_parameters`")]
    NotSecret(String),
    #[error(
        "parameter `{0}` is not declared by this script and would change what its programs do; to accept it, replace `\"any\"` in the script's `parameters` in script_manifest.json on the host with a list that contains {{\"name\": \"{0}\"}}"
    )]
    MustBeDeclared(String),
    #[error(
        "parameter `{name}` is not declared by this script; to accept it, add {line} in script_manifest.json on the host"
    )]
    Undeclared { name: String, line: String },
    #[error("parameter `{0}` is required")]
    Missing(String),
    #[error(
        "parameter `{0}` is not declared by this version of the script; save a version that declares it"
    )]
    NotOfVersion(String),
    #[error("parameter `{name}` must be {expected}")]
    Type { name: String, expected: &'static str },
    #[error("parameter `{name}` must match the pattern `{pattern}` as a whole")]
    Pattern { name: String, pattern: String },
    #[error("parameter `{name}` must be one of: {choices}")]
    NotAChoice { name: String, choices: String },
}

/// Checks names and values from outside, for any script.
///
/// # Errors
/// [`ParameterError`] names the first rejected parameter.
pub fn check(parameters: &Parameters, secrets: &SecretParameters) -> Result<(), ParameterError> {
    if parameters.len() + secrets.len() > MAX_PARAMETERS {
        return Err(ParameterError::TooMany);
    }
    let open = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in open.chain(secrets.iter()) {
        check_name(name)?;
        if value.len() > MAX_VALUE_BYTES || value.contains('\0') {
            return Err(ParameterError::Value(name.to_owned()));
        }
    }
    match parameters.keys().find(|name| secrets.get(name).is_some()) {
        Some(name) => Err(ParameterError::Twice(name.clone())),
        None => Ok(()),
    }
}

/// Checks names and values against the parameters that a script accepts.
///
/// # Errors
/// [`ParameterError`] names the first rejected parameter.
pub fn check_accepted(
    parameters: &Parameters,
    secrets: &SecretParameters,
    accepted: &AcceptedParameters,
) -> Result<(), ParameterError> {
    check(parameters, secrets)?;
    let open = parameters.keys().map(|name| (name.as_str(), false));
    let declared = accepted.declared();
    for (name, is_secret) in open.chain(secrets.iter().map(|(name, _)| (name, true))) {
        match accepted {
            AcceptedParameters::Any => check_undeclared_name(name)?,
            AcceptedParameters::Declared(_) if declared.iter().any(|known| known.name == name) => {}
            AcceptedParameters::Declared(_) => return Err(undeclared(name, is_secret, declared)),
        }
    }
    for declaration in declared {
        let name = declaration.name.as_str();
        if declaration.secret && parameters.contains_key(name) {
            return Err(ParameterError::NotSecret(name.to_owned()));
        }
        let given = parameters.get(name).map(String::as_str).or_else(|| secrets.get(name));
        let Some(value) = given.or(declaration.default.as_deref()) else {
            if declaration.required {
                return Err(ParameterError::Missing(name.to_owned()));
            }
            continue;
        };
        if !declaration.choices.is_empty() && !declaration.choices.iter().any(|one| one == value) {
            return Err(ParameterError::NotAChoice {
                name: name.to_owned(),
                choices: declaration.choices.join(", "),
            });
        }
    }
    Ok(())
}

/// The error for an undeclared parameter, with the text that declares it.
fn undeclared(name: &str, is_secret: bool, declared: &[ParameterDeclaration]) -> ParameterError {
    let secret = if is_secret { ", \"secret\": true" } else { "" };
    let entry = format!("{{\"name\": \"{name}\"{secret}}}");
    let line = if declared.is_empty() {
        format!("`\"parameters\": [{entry}]` to the script's entry")
    } else {
        format!("`{entry}` to the script's `parameters`")
    };
    ParameterError::Undeclared { name: name.to_owned(), line }
}

/// Checks values against the parameters that a script accepts and adds the defaults; the default of a secret is
/// a secret.
///
/// # Errors
/// As [`check_accepted`].
pub fn resolve(
    mut parameters: Parameters,
    mut secrets: SecretParameters,
    accepted: &AcceptedParameters,
) -> Result<(Parameters, SecretParameters), ParameterError> {
    check_accepted(&parameters, &secrets, accepted)?;
    for declaration in accepted.declared() {
        let name = declaration.name.as_str();
        let is_given = parameters.contains_key(name) || secrets.get(name).is_some();
        let Some(default) = declaration.default.as_ref().filter(|_| !is_given) else { continue };
        if declaration.secret {
            secrets.insert(name.to_owned(), default.clone());
        } else {
            parameters.insert(name.to_owned(), default.clone());
        }
    }
    Ok((parameters, secrets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(name: &str) -> ParameterDeclaration {
        ParameterDeclaration {
            name: name.into(),
            required: false,
            default: None,
            choices: vec![],
            secret: false,
            description: None,
        }
    }

    #[test]
    fn defaults_are_added_and_required_values_are_enforced() {
        let declared = [
            ParameterDeclaration {
                default: Some("blue".into()),
                choices: vec!["blue".into()],
                ..declared("COLOUR")
            },
            ParameterDeclaration { required: true, ..declared("WHO") },
        ];
        let declared = AcceptedParameters::Declared(declared.into());
        let given = Parameters::from([("WHO".into(), "me".into())]);
        let (resolved, _) =
            resolve(given, SecretParameters::default(), &declared).expect("fits the declaration");
        assert_eq!(resolved["COLOUR"], "blue");
        assert_eq!(
            resolve(Parameters::new(), SecretParameters::default(), &declared),
            Err(ParameterError::Missing("WHO".into()))
        );
    }

    #[test]
    fn declared_secret_must_be_sent_as_a_secret_and_others_can_be() {
        let declared = [
            ParameterDeclaration { secret: true, ..declared("TOKEN") },
            ParameterDeclaration {
                secret: true,
                default: Some("key".into()),
                ..declared("DEFAULT")
            },
            declared("WHO"),
        ];
        let declared = AcceptedParameters::Declared(declared.into());
        let one = |name: &str| Parameters::from([(name.into(), "me".into())]);
        let none = Parameters::new;
        let resolved = |open, secret: Parameters| {
            resolve(open, secret.into(), &declared).map(|(open, secrets)| {
                let names: Vec<_> = secrets.iter().map(|(name, _)| name.to_owned()).collect();
                (open.len(), names.join(" "))
            })
        };
        assert_eq!(resolved(one("TOKEN"), none()), Err(ParameterError::NotSecret("TOKEN".into())));
        assert_eq!(resolved(one("WHO"), one("WHO")), Err(ParameterError::Twice("WHO".into())));
        assert_eq!(resolved(one("WHO"), one("TOKEN")), Ok((1, "DEFAULT TOKEN".into())));
        assert_eq!(resolved(none(), one("WHO")), Ok((0, "DEFAULT WHO".into())));
        assert!(matches!(
            resolved(none(), one("X")),
            Err(ParameterError::Undeclared { name, .. }) if name == "X"
        ));
        let many = (0..=MAX_PARAMETERS).map(|n| (format!("P{n}"), String::new()));
        assert_eq!(resolved(none(), many.collect()), Err(ParameterError::TooMany));
    }

    #[test]
    fn script_without_declarations_accepts_no_parameter_and_the_refusal_names_the_line_to_add() {
        let refusal = |open: &[&str], secret: &[&str], accepted: &AcceptedParameters| {
            let named = |names: &[&str]| -> Parameters {
                names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect()
            };
            let checked = check_accepted(&named(open), &named(secret).into(), accepted);
            checked.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let none = AcceptedParameters::default();
        let some = AcceptedParameters::Declared(vec![declared("WHO")]);
        assert_eq!(refusal(&[], &[], &none), "");
        for (open, secret, accepted, line) in [
            (["NAME"].as_slice(), [].as_slice(), &none, r#"`"parameters": [{"name": "NAME"}]`"#),
            (&[], &["KEY"], &none, r#"`"parameters": [{"name": "KEY", "secret": true}]`"#),
            (&["NAME"], &[], &some, r#"`{"name": "NAME"}` to the script's `parameters`"#),
        ] {
            let text = refusal(open, secret, accepted);
            assert!(text.contains(line) && text.contains("script_manifest.json"), "{text}");
        }
        for hostile in ["TAR_OPTIONS", "GIT_SSH_COMMAND", "https_proxy"] {
            assert!(refusal(&[hostile], &[], &AcceptedParameters::Any).contains(hostile));
            assert!(refusal(&[], &[hostile], &AcceptedParameters::Any).contains(hostile));
        }
        assert_eq!(refusal(&["NAME"], &["KEY"], &AcceptedParameters::Any), "");
    }
}
