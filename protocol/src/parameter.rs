//! Parameters of a script: their names, and checks of their values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::secret_parameters::SecretParameters;

/// Values by name. They become environment variables of the child.
pub type Parameters = BTreeMap<String, String>;

/// Longest name of a parameter, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
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
    #[error("parameter `{0}` is not declared by this script")]
    Undeclared(String),
    #[error("parameter `{0}` is required")]
    Missing(String),
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

/// Checks values against a script's declarations. A script without declarations takes any valid
/// parameter.
///
/// # Errors
/// [`ParameterError`] names the first rejected parameter.
pub fn check_declared(
    parameters: &Parameters,
    secrets: &SecretParameters,
    declared: Option<&[ParameterDeclaration]>,
) -> Result<(), ParameterError> {
    check(parameters, secrets)?;
    let Some(declared) = declared else { return Ok(()) };
    let names = parameters.keys().map(String::as_str).chain(secrets.iter().map(|pair| pair.0));
    for name in names {
        if !declared.iter().any(|known| known.name == name) {
            return Err(ParameterError::Undeclared(name.to_owned()));
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

/// Checks values against a script's declarations and adds the defaults; the default of a secret is
/// a secret.
///
/// # Errors
/// As [`check_declared`].
pub fn resolve(
    mut parameters: Parameters,
    mut secrets: SecretParameters,
    declared: Option<&[ParameterDeclaration]>,
) -> Result<(Parameters, SecretParameters), ParameterError> {
    check_declared(&parameters, &secrets, declared)?;
    for declaration in declared.into_iter().flatten() {
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

/// Checks that a name is a valid environment variable and does not change how programs start.
///
/// # Errors
/// [`ParameterError::Malformed`] or [`ParameterError::Reserved`].
pub fn check_name(name: &str) -> Result<(), ParameterError> {
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !starts_well || !is_word || name.len() > MAX_NAME_BYTES {
        return Err(ParameterError::Malformed(name.chars().take(MAX_NAME_BYTES).collect()));
    }
    if is_reserved(name) {
        return Err(ParameterError::Reserved(name.to_owned()));
    }
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    const EXACT: [&str; 19] = [
        "PATH",
        "BASH_ENV",
        "ENV",
        "IFS",
        "NODE_OPTIONS",
        "SHELLOPTS",
        "BASHOPTS",
        "PS4",
        "CDPATH",
        "GLOBIGNORE",
        "PERL5LIB",
        "PERL5OPT",
        "PERLLIB",
        "RUBYOPT",
        "RUBYLIB",
        "HOME",
        "SHELL",
        "NODE_PATH",
        "JAVA_TOOL_OPTIONS",
    ];
    const PREFIXES: [&str; 5] = ["LD_", "DYLD_", "PYTHON", "MUSTER_", "BASH_FUNC_"];
    let upper = name.to_ascii_uppercase();
    EXACT.contains(&upper.as_str()) || PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn names_that_change_how_programs_start_are_rejected() {
        for name in
            ["PATH", "path", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "MUSTER_API_KEY", "IFS"]
        {
            assert_eq!(check_name(name), Err(ParameterError::Reserved(name.into())), "{name}");
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
        let given = Parameters::from([("WHO".into(), "me".into())]);
        let (resolved, _) = resolve(given, SecretParameters::default(), Some(&declared))
            .expect("fits the declaration");
        assert_eq!(resolved["COLOUR"], "blue");
        assert_eq!(
            resolve(Parameters::new(), SecretParameters::default(), Some(&declared)),
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
        let one = |name: &str| Parameters::from([(name.into(), "me".into())]);
        let none = Parameters::new;
        let resolved = |open, secret: Parameters| {
            resolve(open, secret.into(), Some(&declared)).map(|(open, secrets)| {
                let names: Vec<_> = secrets.iter().map(|(name, _)| name.to_owned()).collect();
                (open.len(), names.join(" "))
            })
        };
        assert_eq!(resolved(one("TOKEN"), none()), Err(ParameterError::NotSecret("TOKEN".into())));
        assert_eq!(resolved(one("WHO"), one("WHO")), Err(ParameterError::Twice("WHO".into())));
        assert_eq!(resolved(one("WHO"), one("TOKEN")), Ok((1, "DEFAULT TOKEN".into())));
        assert_eq!(resolved(none(), one("WHO")), Ok((0, "DEFAULT WHO".into())));
        assert_eq!(resolved(none(), one("X")), Err(ParameterError::Undeclared("X".into())));
        let many = (0..=MAX_PARAMETERS).map(|n| (format!("P{n}"), String::new()));
        assert_eq!(resolved(none(), many.collect()), Err(ParameterError::TooMany));
    }

    proptest! {
        #[test]
        fn accepted_names_are_valid_variable_names(name in "\\PC{0,20}") {
            if check_name(&name).is_ok() {
                prop_assert!(!name.is_empty() && !name.contains('=') && name.is_ascii());
            }
        }
    }
}
