//! The scopes that the OpenAPI document names, against the table of the matrix.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::operations::{Needs, Operation};

/// Checks `x-required-scope` of every operation. An operation with variants names scopes of some of them.
pub fn check_scopes(document: &Value, table: &[Operation]) -> Result<(), String> {
    let mut entries: BTreeMap<(&str, &str), Vec<BTreeSet<&str>>> = BTreeMap::new();
    for operation in table {
        let groups = match operation.needs {
            Needs::Scopes(groups) | Needs::Person(groups) => groups,
            Needs::Nothing | Needs::AnyKey | Needs::AgentKey | Needs::Own(_) => &[],
        };
        let scopes = groups.iter().flat_map(|group| group.iter().copied()).collect();
        entries.entry((operation.method, operation.path)).or_default().push(scopes);
    }
    for ((method, path), variants) in entries {
        let named = &document["paths"][path][method.to_lowercase()]["x-required-scope"];
        let named: BTreeSet<&str> = named
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let all: BTreeSet<&str> = variants.iter().flatten().copied().collect();
        let fits = match variants.len() {
            1 => named == all,
            _ => named.is_subset(&all) && named.is_empty() == all.is_empty(),
        };
        if !fits {
            return Err(format!("{method} {path} names {named:?}, and needs {all:?}"));
        }
    }
    Ok(())
}
