//! Facts that an agent reports: the server stores them clean and within the bounds.

use muster_protocol::facts::{
    FactReport, FactValue, MAX_FACT_BYTES, MAX_FACT_ERROR_CHARS, MAX_FACT_ERRORS, MAX_FACT_VALUES,
    MAX_FACTS, MAX_FACTS_BYTES, is_fact_name,
};
use muster_server::domain::fleet::reported_facts::ReportedFacts;
use muster_server::domain::name::is_invisible;

pub fn check(bytes: &[u8]) {
    let Ok(report) = serde_json::from_slice::<FactReport>(bytes) else { return };
    let accepted = ReportedFacts::accept(report);
    assert!(accepted.facts.len() <= MAX_FACTS);
    let mut total = 0;
    for (name, values) in &accepted.facts {
        let bytes: usize = values.iter().map(String::len).sum();
        total += name.len() + bytes;
        assert!(is_fact_name(name), "{name}");
        assert!((1..=MAX_FACT_VALUES).contains(&values.len()) && bytes <= MAX_FACT_BYTES);
        assert!(!values.concat().contains(is_invisible), "{values:?}");
    }
    assert!(total <= MAX_FACTS_BYTES && accepted.errors.len() <= MAX_FACT_ERRORS);
    for text in accepted.errors.iter().flat_map(|error| [&error.source, &error.error]) {
        assert!(text.chars().count() <= MAX_FACT_ERROR_CHARS && !text.contains(is_invisible));
    }
    let facts = accepted.facts.iter().map(|(name, it)| (name.clone(), FactValue::of(it.clone())));
    let again = FactReport { facts: facts.collect(), errors: accepted.errors.clone() };
    let is_complete = accepted.errors.iter().all(|error| error.source != "server");
    if is_complete {
        assert_eq!(ReportedFacts::accept(again), accepted, "accepting it again changes it");
    }
}
