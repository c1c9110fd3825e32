//! Which parameters a script accepts: the field `parameters` of its manifest entry.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ParameterDeclaration;

/// The word in the manifest for a script that takes any parameter.
pub const ANY: &str = "any";

/// The parameters that a script accepts. Without the field it accepts none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptedParameters {
    /// Only these.
    Declared(Vec<ParameterDeclaration>),
    /// Any, except names that change what programs do.
    Any,
}

impl AcceptedParameters {
    /// True if the script accepts no parameters.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The declarations; empty if the script takes any parameter.
    pub fn declared(&self) -> &[ParameterDeclaration] {
        match self {
            Self::Declared(declared) => declared,
            Self::Any => &[],
        }
    }

    /// The declarations, to change them.
    pub fn declared_mut(&mut self) -> &mut [ParameterDeclaration] {
        match self {
            Self::Declared(declared) => declared,
            Self::Any => &mut [],
        }
    }
}

impl Default for AcceptedParameters {
    fn default() -> Self {
        Self::Declared(Vec::new())
    }
}

impl Serialize for AcceptedParameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Declared(declared) => declared.serialize(serializer),
            Self::Any => serializer.serialize_str(ANY),
        }
    }
}

impl<'de> Deserialize<'de> for AcceptedParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListOrAny)
    }
}

struct ListOrAny;

impl<'de> Visitor<'de> for ListOrAny {
    type Value = AcceptedParameters;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of parameters, or \"any\"")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<AcceptedParameters, E> {
        match word {
            ANY => Ok(AcceptedParameters::Any),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<AcceptedParameters, A::Error> {
        let declared = Vec::deserialize(SeqAccessDeserializer::new(items));
        declared.map(AcceptedParameters::Declared).map_err(A::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for AcceptedParameters {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AcceptedParameters".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let declared = generator.subschema_for::<Vec<ParameterDeclaration>>();
        schemars::json_schema!({ "oneOf": [declared, { "const": ANY }] })
    }
}
