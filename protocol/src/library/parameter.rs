//! A parameter of a library script: a declaration with a type and a pattern.

use data_encoding::BASE64;
use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_CHOICES, MAX_DESCRIPTION_CHARS};
use crate::parameter::secret_parameters::SecretParameters;
use crate::parameter::{
    MAX_VALUE_BYTES, ParameterDeclaration, ParameterError, Parameters, check_name,
};

/// Longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 256;
/// Memory that a compiled pattern may take.
const MAX_PATTERN_MEMORY_BYTES: usize = 64 * 1024;

/// What a value must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    #[default]
    String,
    /// A whole number of 64 bits.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// One of `choices`.
    Choice,
    /// Text that is sealed where it is stored and masked in output.
    Secret,
    /// The bytes of a file, in base64. The script gets the path of a file with them.
    File,
}

/// Most bytes of the value of a file: in base64, as many as other values have.
pub const MAX_FILE_BYTES: usize = MAX_VALUE_BYTES / 4 * 3;

/// The bytes of the value of a file; `None` if it is no base64, or too long.
pub fn file_bytes(value: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(value.as_bytes()).ok()?;
    (bytes.len() <= MAX_FILE_BYTES).then_some(bytes)
}

/// One parameter. The script gets it as an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptParameter {
    pub name: String,
    #[serde(default, rename = "type")]
    pub kind: ParameterKind,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The value if the caller gives none. A secret has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// For the type `choice`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// A regular expression that the whole value must match, for `string` and `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl ScriptParameter {
    /// An optional string.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: ParameterKind::String,
            required: false,
            default: None,
            choices: Vec::new(),
            pattern: None,
            help: None,
        }
    }

    /// The names of the given parameters that are files.
    pub fn files_among(declared: &[Self], given: &Parameters) -> Vec<String> {
        let files = declared.iter().filter(|parameter| parameter.kind == ParameterKind::File);
        files.map(|file| file.name.clone()).filter(|name| given.contains_key(name)).collect()
    }

    /// As hosts' manifests declare it.
    pub(crate) fn declared(&self) -> ParameterDeclaration {
        ParameterDeclaration {
            name: self.name.clone(),
            required: self.required,
            default: self.default.clone(),
            choices: self.choices.clone(),
            secret: self.kind == ParameterKind::Secret,
            description: self.help.clone(),
        }
    }

    /// # Errors
    /// A problem as the end of a sentence about the parameter.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_name(&self.name).map_err(|error| format!("is not valid: {error}"))?;
        let problem = |text: &str| Err(text.to_owned());
        if (self.kind == ParameterKind::Choice) == self.choices.is_empty() {
            return problem("must have `choices` exactly if its type is `choice`");
        }
        let is_choice =
            |choice: &String| choice.len() <= MAX_VALUE_BYTES && !choice.contains(char::is_control);
        if self.choices.len() > MAX_CHOICES || !self.choices.iter().all(is_choice) {
            return problem("must have at most 256 choices without control characters");
        }
        if self.help.as_ref().is_some_and(|help| help.chars().count() > MAX_DESCRIPTION_CHARS) {
            return problem("has a help text of more than 1024 characters");
        }
        if self.pattern.is_some()
            && !matches!(self.kind, ParameterKind::String | ParameterKind::Secret)
        {
            return problem("can have a pattern only if its type is `string` or `secret`");
        }
        if let Some(pattern) = &self.pattern
            && compile(pattern).is_none()
        {
            return problem("has a pattern that is not a regular expression of at most 256 bytes");
        }
        let Some(default) = &self.default else { return Ok(()) };
        if self.kind == ParameterKind::Secret {
            return problem("is a secret, and its default would not be one");
        }
        if self.kind == ParameterKind::File {
            return problem("is a file, which has no default");
        }
        if default.len() > MAX_VALUE_BYTES || default.contains('\0') {
            return problem("has a default of more than 64 KiB or with a NUL byte");
        }
        let is_unlisted = !self.choices.is_empty() && !self.choices.contains(default);
        if is_unlisted || self.check_value(default).is_err() {
            return problem("has a default that it would refuse");
        }
        Ok(())
    }

    /// Checks the types and the patterns of all values, and of the defaults of the others.
    ///
    /// # Errors
    /// [`ParameterError`] names the first rejected parameter, never its value.
    pub fn check_values(
        declared: &[Self],
        parameters: &Parameters,
        secrets: &SecretParameters,
    ) -> Result<(), ParameterError> {
        for parameter in declared {
            let name = parameter.name.as_str();
            let given = parameters.get(name).map(String::as_str).or_else(|| secrets.get(name));
            if let Some(value) = given.or(parameter.default.as_deref()) {
                parameter.check_value(value)?;
            }
        }
        Ok(())
    }

    /// Checks the type and the pattern of a value. Choices are checked with the declaration.
    fn check_value(&self, value: &str) -> Result<(), ParameterError> {
        let expected = match self.kind {
            ParameterKind::Integer if value.parse::<i64>().is_err() => "a whole number",
            ParameterKind::Boolean if !matches!(value, "true" | "false") => "`true` or `false`",
            ParameterKind::File if file_bytes(value).is_none() => {
                "a file of at most 48 KiB, in base64"
            }
            _ => {
                let Some(pattern) = &self.pattern else { return Ok(()) };
                // A pattern that can't be compiled was not checked, and matches nothing.
                if compile(pattern).is_some_and(|regex| regex.is_match(value)) {
                    return Ok(());
                }
                return Err(ParameterError::Pattern {
                    name: self.name.clone(),
                    pattern: pattern.chars().filter(|char| !char.is_control()).collect(),
                });
            }
        };
        Err(ParameterError::Type { name: self.name.clone(), expected })
    }
}

/// The pattern for the whole value. Its time is linear in the value.
fn compile(pattern: &str) -> Option<Regex> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return None;
    }
    // On its own first: `a)|(b` is no pattern, although it is one in parentheses.
    RegexBuilder::new(pattern).size_limit(MAX_PATTERN_MEMORY_BYTES).build().ok()?;
    let whole = format!(r"\A(?:{pattern})\z");
    RegexBuilder::new(&whole).size_limit(MAX_PATTERN_MEMORY_BYTES).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_bounded_base64_without_a_default() {
        let file = ScriptParameter { kind: ParameterKind::File, ..ScriptParameter::named("F") };
        assert_eq!(file.check(), Ok(()));
        let whole = BASE64.encode(&[7; MAX_FILE_BYTES]);
        assert_eq!(whole.len(), MAX_VALUE_BYTES);
        for (value, is_right) in
            [(whole.as_str(), true), ("", true), ("aGk=", true), ("a b", false), ("aGk", false)]
        {
            assert_eq!(file.check_value(value).is_ok(), is_right, "{value}");
        }
        assert!(file.check_value(&BASE64.encode(&[7; MAX_FILE_BYTES + 1])).is_err());
        let with_default = ScriptParameter { default: Some("aGk=".into()), ..file.clone() };
        assert!(with_default.check().is_err());
        assert!(ScriptParameter { pattern: Some("a".into()), ..file }.check().is_err());
    }

    #[test]
    fn a_pattern_must_match_the_whole_value_and_can_not_escape_its_group() {
        let matches =
            |pattern: &str, value: &str| compile(pattern).map(|regex| regex.is_match(value));
        assert_eq!(matches("a|b", "b"), Some(true));
        assert_eq!(matches("a|b", "ab"), Some(false));
        assert_eq!(matches("[a-z]+", "abc\n"), Some(false));
        assert_eq!(matches("a)|(b", "b"), None);
        assert_eq!(matches("(", ""), None);
        assert_eq!(matches(&"a".repeat(MAX_PATTERN_BYTES + 1), ""), None);
        assert_eq!(matches("(a{1000}){1000}", ""), None);
    }
}
