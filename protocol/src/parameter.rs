//! Parameters of a script: what they may be called and how they are checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Values by name, as they become environment variables of the child.
pub type Parameters = BTreeMap<String, String>;

/// Longest name of a parameter, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest value of a parameter, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Most parameters of one execution.
pub const MAX_PARAMETERS: usize = 256;

/// One parameter that a script declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// The environment variable that carries it.
    pub name: String,
    /// Refused when absent and without default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The value when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The only values it may take, if any are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// True if the value is to be masked wherever it would be shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Why parameters are refused. Never holds a value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    #[error(
        "parameter name `{0}` is not a variable name: use letters, digits and `_`, not starting with a digit"
    )]
    Malformed(String),
    #[error(
        "parameter name `{0}` is reserved: it would change how programs start; choose another name"
    )]
    Reserved(String),
    #[error("parameter `{0}` is longer than 64 KiB or holds a NUL byte")]
    Value(String),
    #[error("more than {MAX_PARAMETERS} parameters")]
    TooMany,
    #[error("parameter `{0}` is not declared by this script")]
    Undeclared(String),
    #[error("parameter `{0}` is required")]
    Missing(String),
    #[error("parameter `{name}` must be one of: {choices}")]
    NotAChoice { name: String, choices: String },
}

/// Checks names and values that come from outside, whatever a script declares.
///
/// # Errors
/// [`ParameterError`] names the first parameter that is refused.
pub fn check(parameters: &Parameters) -> Result<(), ParameterError> {
    if parameters.len() > MAX_PARAMETERS {
        return Err(ParameterError::TooMany);
    }
    for (name, value) in parameters {
        check_name(name)?;
        if value.len() > MAX_VALUE_BYTES || value.contains('\0') {
            return Err(ParameterError::Value(name.clone()));
        }
    }
    Ok(())
}

/// Checks values against what a script declares and adds the defaults.
///
/// A script that declares nothing takes any well-formed parameter.
///
/// # Errors
/// [`ParameterError`] names the first parameter that is refused.
pub fn resolve(
    mut parameters: Parameters,
    declared: Option<&[Declaration]>,
) -> Result<Parameters, ParameterError> {
    check(&parameters)?;
    let Some(declared) = declared else {
        return Ok(parameters);
    };
    if let Some(name) =
        parameters.keys().find(|name| !declared.iter().any(|known| known.name == **name))
    {
        return Err(ParameterError::Undeclared(name.clone()));
    }
    for declaration in declared {
        match (parameters.get(&declaration.name), &declaration.default) {
            (None, Some(default)) => {
                parameters.insert(declaration.name.clone(), default.clone());
            }
            (None, None) if declaration.required => {
                return Err(ParameterError::Missing(declaration.name.clone()));
            }
            (None, None) => continue,
            (Some(_), _) => {}
        }
        let value = &parameters[&declaration.name];
        if !declaration.choices.is_empty() && !declaration.choices.contains(value) {
            return Err(ParameterError::NotAChoice {
                name: declaration.name.clone(),
                choices: declaration.choices.join(", "),
            });
        }
    }
    Ok(parameters)
}

/// Checks that a name can be an environment variable and can't change how programs start.
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

    fn declared(name: &str) -> Declaration {
        Declaration {
            name: name.into(),
            required: false,
            default: None,
            choices: vec![],
            secret: false,
            description: None,
        }
    }

    #[test]
    fn names_that_change_how_programs_start_are_refused() {
        for name in
            ["PATH", "path", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "MUSTER_API_KEY", "IFS"]
        {
            assert_eq!(check_name(name), Err(ParameterError::Reserved(name.into())), "{name}");
        }
    }

    #[test]
    fn defaults_fill_in_and_choices_bind() {
        let declared = [
            Declaration {
                default: Some("blue".into()),
                choices: vec!["blue".into()],
                ..declared("COLOUR")
            },
            Declaration { required: true, ..declared("WHO") },
        ];
        let given = Parameters::from([("WHO".into(), "me".into())]);
        let resolved = resolve(given, Some(&declared)).expect("fits the declaration");
        assert_eq!(resolved["COLOUR"], "blue");
        assert_eq!(
            resolve(Parameters::new(), Some(&declared)),
            Err(ParameterError::Missing("WHO".into()))
        );
    }

    proptest! {
        #[test]
        fn accepted_names_are_plain_variable_names(name in "\\PC{0,20}") {
            if check_name(&name).is_ok() {
                prop_assert!(!name.is_empty() && !name.contains('=') && name.is_ascii());
            }
        }
    }
}
