//! Secret parameters: a container that neither prints its values nor leaves them in memory.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroize as _;

/// The capability of an agent that accepts `secret_parameters` and masks them in output.
pub const CAPABILITY: &str = "secret_parameters";

/// How a script receives its secret parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SecretDelivery {
    /// As environment variables.
    #[default]
    Environment,
    /// As files that only the script's user can read. The environment variables contain their
    /// paths.
    File,
}

impl SecretDelivery {
    /// True for the default.
    pub fn is_environment(&self) -> bool {
        *self == Self::Environment
    }
}

/// Secret values by name. `Debug` shows only the names; drop wipes the values from memory.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SecretParameters(BTreeMap<String, String>);

impl SecretParameters {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value of this name, in plain text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, in plain text, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a value. Returns false if it replaced an earlier one.
    pub fn insert(&mut self, name: String, value: String) -> bool {
        match self.0.insert(name, value) {
            Some(mut previous) => {
                previous.zeroize();
                false
            }
            None => true,
        }
    }
}

impl Drop for SecretParameters {
    fn drop(&mut self) {
        self.0.values_mut().for_each(String::zeroize);
    }
}

impl From<BTreeMap<String, String>> for SecretParameters {
    fn from(values: BTreeMap<String, String>) -> Self {
        Self(values)
    }
}

impl<'de> Deserialize<'de> for SecretParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The deserializer's error would quote the input, which may be a secret.
        BTreeMap::deserialize(deserializer)
            .map(Self)
            .map_err(|_| D::Error::custom("`secret_parameters` must be an object of strings"))
    }
}

impl fmt::Debug for SecretParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_output_nor_errors_contain_a_value() {
        let read = |text: &str| serde_json::from_str::<SecretParameters>(text);
        let secrets = read(r#"{"TOKEN": "hunter2"}"#).expect("texts by name");
        assert_eq!(format!("{secrets:?}"), r#"{"TOKEN"}"#);
        assert_eq!(secrets.get("TOKEN"), Some("hunter2"));
        let error = read(r#"{"TOKEN": 77777777}"#).expect_err("no text").to_string();
        assert!(!error.contains("7777"), "{error}");
    }
}
