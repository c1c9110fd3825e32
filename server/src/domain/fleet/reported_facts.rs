//! Facts that a host reports. Hosts are not trusted, so the bounds of honest hosts are applied again,
//! and invisible characters are removed from the texts.

use muster_protocol::facts::{
    FactCollection, FactError, FactReport, FactValue, MAX_FACT_ERROR_CHARS, MAX_FACT_ERRORS,
    MAX_FACT_VALUES,
};
use ring::digest;

use super::target::facts::HostFacts;
use crate::domain::name::clean;

/// The source of the error about facts that the server left out.
const SERVER: &str = "server";

/// Facts that may be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportedFacts {
    pub facts: HostFacts,
    pub errors: Vec<FactError>,
}

impl ReportedFacts {
    /// Cleans a report. Facts beyond a bound are left out, and an error says so.
    pub fn accept(report: FactReport) -> Self {
        let mut facts = FactCollection::default();
        let (mut left_out, mut reason) = (0_usize, None);
        for (name, value) in report.facts {
            if let Err(problem) = facts.add(&name, cleaned(&value)) {
                left_out += 1;
                reason.get_or_insert(problem);
            }
        }
        let mut errors: Vec<FactError> = reason
            .map(|reason| FactError {
                source: SERVER.to_owned(),
                error: format!("the server left out {left_out} facts, the first because {reason}"),
            })
            .into_iter()
            .collect();
        errors.extend(report.errors.into_iter().take(MAX_FACT_ERRORS).map(|error| FactError {
            source: clean(&error.source, MAX_FACT_ERROR_CHARS),
            error: clean(&error.error, MAX_FACT_ERROR_CHARS),
        }));
        errors.truncate(MAX_FACT_ERRORS);
        Self { facts: facts.into_values(), errors }
    }

    /// SHA-256: a report with the same digest changes nothing.
    pub fn digest(&self) -> [u8; 32] {
        // Maps and lists of texts always have a JSON form.
        let errors: Vec<_> = self.errors.iter().map(|it| (&it.source, &it.error)).collect();
        let text = serde_json::to_vec(&(&self.facts, errors)).unwrap_or_default();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, &text).as_ref());
        bytes
    }
}

/// One more value than allowed is kept, so that the bound refuses the fact.
fn cleaned(value: &FactValue) -> Vec<String> {
    let values = value.values().iter().take(MAX_FACT_VALUES + 1);
    values.map(|text| clean(text, text.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::is_invisible;
    use muster_protocol::facts::{
        MAX_FACT_BYTES, MAX_FACT_NAME_BYTES, MAX_FACTS, MAX_FACTS_BYTES, is_fact_name,
    };
    use proptest::prelude::*;

    fn one(text: &str) -> FactValue {
        FactValue::One(text.to_owned())
    }

    #[test]
    fn what_breaks_a_bound_is_left_out_and_the_rest_is_kept() {
        let facts = [
            ("ok".to_owned(), one("a\u{1b}[2J\u{202e}b\nc")),
            ("<script>".to_owned(), one("x")),
            ("many".to_owned(), FactValue::Several(vec!["x".into(); 33])),
            ("long".to_owned(), one(&"x".repeat(MAX_FACT_BYTES + 1))),
        ];
        let error = FactError { source: "a\u{7}".into(), error: "b\u{200b}".repeat(999) };
        let report = FactReport { facts: facts.into(), errors: vec![error; 99] };
        let accepted = ReportedFacts::accept(report);
        assert_eq!(accepted.facts, [("ok".to_owned(), vec!["a[2Jbc".to_owned()])].into());
        assert_eq!(accepted.errors.len(), MAX_FACT_ERRORS);
        assert!(accepted.errors[0].error.starts_with("the server left out 3 facts"));
        assert_eq!(accepted.errors[1].source, "a");
        assert_eq!(accepted.errors[1].error, "b".repeat(MAX_FACT_ERROR_CHARS));
        assert_ne!(accepted.digest(), ReportedFacts::default().digest());
    }

    proptest! {
        #[test]
        fn reports_of_hosts_are_stored_within_the_bounds_and_visible(
            names in prop::collection::vec("[a-z./\u{202e} -]{0,4}", 0..40),
            more in 0..300_usize,
            length in 100..140_usize,
            text in any::<String>(),
            count in 0_usize..40,
        ) {
            let value = FactValue::Several(vec![text; count]);
            let long = (0..more).map(|number| format!("{number:0>length$}"));
            let facts = names.into_iter().chain(long).map(|name| (name, value.clone())).collect();
            let accepted = ReportedFacts::accept(FactReport { facts, errors: Vec::new() });
            let size = |(name, values): (&String, &Vec<String>)| {
                name.len() + values.iter().map(String::len).sum::<usize>()
            };
            prop_assert!(accepted.facts.len() <= MAX_FACTS);
            prop_assert!(accepted.facts.iter().map(size).sum::<usize>() <= MAX_FACTS_BYTES);
            for (name, values) in &accepted.facts {
                prop_assert!(is_fact_name(name) && name.len() <= MAX_FACT_NAME_BYTES);
                prop_assert!((1..=MAX_FACT_VALUES).contains(&values.len()));
                prop_assert!(!values.concat().contains(is_invisible));
            }
        }
    }
}
