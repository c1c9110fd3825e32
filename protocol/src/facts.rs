//! Facts that a host reports about itself, and the bounds that both ends apply to them.
//!
//! A fact has a name and one or more texts. Numbers and truth values are sent as text. What a host
//! reports is a claim: it selects agents, and proves nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Agents that report facts list it in `register`.
pub const CAPABILITY: &str = "facts";

/// Most facts of one host.
pub const MAX_FACTS: usize = 256;
/// Longest name of a fact, in bytes.
pub const MAX_FACT_NAME_BYTES: usize = 128;
/// Most values of one fact.
pub const MAX_FACT_VALUES: usize = 32;
/// Longest values of one fact together, in bytes.
pub const MAX_FACT_BYTES: usize = 1024;
/// Largest facts of one host together, names and values, in bytes.
pub const MAX_FACTS_BYTES: usize = 32 * 1024;
/// Most errors of one report.
pub const MAX_FACT_ERRORS: usize = 32;
/// Longest source or text of an error, in characters.
pub const MAX_FACT_ERROR_CHARS: usize = 512;

/// The facts of one host, by name.
pub type Facts = BTreeMap<String, FactValue>;

/// The value of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum FactValue {
    One(String),
    /// Such as the addresses of an interface. A target matches if one of them does.
    Several(Vec<String>),
}

/// Everything that a host reports at a time. It replaces what the host reported before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FactReport {
    #[serde(default)]
    pub facts: Facts,
    /// What could not be found out; everything else is reported nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FactError>,
}

/// Why a fact is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FactError {
    /// The file that should have reported it, or the name of the fact.
    pub source: String,
    pub error: String,
}

impl FactValue {
    /// Its texts, in order.
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }

    /// The value with these texts.
    pub fn of(mut values: Vec<String>) -> Self {
        match values.len() {
            1 => Self::One(values.swap_remove(0)),
            _ => Self::Several(values),
        }
    }
}

/// True for a name of a fact: 1 to 128 letters, digits and `. _ - /`, and the first is a letter, a
/// digit or `_`.
pub fn is_fact_name(name: &str) -> bool {
    let starts = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.len() <= MAX_FACT_NAME_BYTES
        && name.as_bytes().first().is_some_and(starts)
        && name.chars().all(is_fact_name_char)
}

/// True for a character that a name of a fact may contain.
pub fn is_fact_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}

/// Why a fact can't be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FactProblem {
    #[error("a name must have 1 to {MAX_FACT_NAME_BYTES} letters, digits and . _ - /")]
    Name,
    #[error("a fact must have 1 to {MAX_FACT_VALUES} values")]
    Values,
    #[error("the values of a fact must have at most {MAX_FACT_BYTES} bytes together")]
    Bytes,
    #[error("a host may report at most {MAX_FACTS} facts")]
    TooMany,
    #[error("the facts of a host must have at most {MAX_FACTS_BYTES} bytes together")]
    TooLarge,
}

/// Collects facts within the bounds of a report.
#[derive(Debug, Clone, Default)]
pub struct FactCollection {
    facts: BTreeMap<String, Vec<String>>,
    bytes: usize,
}

impl FactCollection {
    /// Adds a fact, and replaces one of the same name.
    ///
    /// # Errors
    /// [`FactProblem`] if the fact breaks a bound. Nothing changes then.
    pub fn add(&mut self, name: &str, values: Vec<String>) -> Result<(), FactProblem> {
        if !is_fact_name(name) {
            return Err(FactProblem::Name);
        }
        if !(1..=MAX_FACT_VALUES).contains(&values.len()) {
            return Err(FactProblem::Values);
        }
        let own: usize = values.iter().map(String::len).sum();
        if own > MAX_FACT_BYTES {
            return Err(FactProblem::Bytes);
        }
        let size = |values: &[String]| name.len() + values.iter().map(String::len).sum::<usize>();
        let before = self.facts.get(name).map(|values| size(values));
        if before.is_none() && self.facts.len() >= MAX_FACTS {
            return Err(FactProblem::TooMany);
        }
        let bytes = self.bytes - before.unwrap_or(0) + size(&values);
        if bytes > MAX_FACTS_BYTES {
            return Err(FactProblem::TooLarge);
        }
        self.bytes = bytes;
        self.facts.insert(name.to_owned(), values);
        Ok(())
    }

    /// True if a fact has this name.
    pub fn contains(&self, name: &str) -> bool {
        self.facts.contains_key(name)
    }

    /// The facts with their values.
    pub fn into_values(self) -> BTreeMap<String, Vec<String>> {
        self.facts
    }

    /// The facts as they are sent.
    pub fn into_facts(self) -> Facts {
        self.facts.into_iter().map(|(name, values)| (name, FactValue::of(values))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fact_beyond_a_bound_changes_nothing() {
        let mut facts = FactCollection::default();
        for (name, values, problem) in [
            ("", vec!["x".to_owned()], FactProblem::Name),
            (".x", vec!["x".to_owned()], FactProblem::Name),
            ("a b", vec!["x".to_owned()], FactProblem::Name),
            ("a", vec![], FactProblem::Values),
            ("a", vec![String::new(); 33], FactProblem::Values),
            ("a", vec!["x".repeat(1025)], FactProblem::Bytes),
        ] {
            assert_eq!(facts.add(name, values), Err(problem), "{name}");
        }
        for number in 0..MAX_FACTS {
            facts.add(&format!("f{number}"), vec!["x".into()]).expect("within the bounds");
        }
        assert_eq!(facts.add("more", vec!["x".into()]), Err(FactProblem::TooMany));
        facts.add("f1", vec!["y".into()]).expect("it replaces one");
        for number in 0..MAX_FACTS {
            let added = facts.add(&format!("f{number}"), vec!["x".repeat(1024)]);
            if added.is_err() {
                assert_eq!(added, Err(FactProblem::TooLarge));
            }
        }
        assert!(facts.bytes <= MAX_FACTS_BYTES && facts.facts.len() == MAX_FACTS);
    }

    proptest! {
        #[test]
        fn every_collection_is_within_its_bounds(
            added in prop::collection::vec(
                ("[a-c./ ]{0,3}", prop::collection::vec(0..400_usize, 0..4)), 0..100),
        ) {
            let mut facts = FactCollection::default();
            for (name, lengths) in added {
                let _ = facts.add(&name, lengths.into_iter().map(|length| "x".repeat(length)).collect());
            }
            let size = |(name, values): (&String, &Vec<String>)| {
                name.len() + values.iter().map(String::len).sum::<usize>()
            };
            let counted: usize = facts.facts.iter().map(size).sum();
            prop_assert_eq!(counted, facts.bytes);
            let report = FactReport { facts: facts.into_facts(), errors: Vec::new() };
            let text = serde_json::to_string(&report).expect("plain data");
            prop_assert_eq!(serde_json::from_str::<FactReport>(&text).expect("read"), report);
        }
    }
}
