//! Every test that the pages about security name exists.

use std::collections::BTreeSet;

use crate::sources;
use crate::table::rows;

/// The header of the tables in `docs/SECURITY_TESTS.md`.
const HEADER: [&str; 5] = ["point", "mend", "test", "what was broken", "what the test reported"];
/// Shorter names are also words of the API.
const MIN_WORDS: usize = 6;

/// The names of all tests. A test that runs on both databases is an argument of a macro, so its function
/// has no attribute of its own: every function counts.
fn functions() -> BTreeSet<String> {
    let files = sources::rust_files(&sources::CRATES);
    files
        .iter()
        .flat_map(|file| file.text.split("fn ").skip(1))
        .map(|rest| rest.chars().take_while(|c| is_of_name(*c)).collect())
        .collect()
}

const fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The code spans of a text that are names of this many words or more.
fn names(text: &str, words: usize) -> impl Iterator<Item = &str> {
    let is_name = move |span: &&str| {
        span.chars().all(|c| is_of_name(c) && !c.is_ascii_uppercase())
            && span.split('_').count() >= words
    };
    text.split('`').skip(1).step_by(2).filter(is_name)
}

#[test]
fn every_test_that_the_pages_about_security_name_exists() {
    let functions = functions();
    let mut problems = Vec::new();
    let page = sources::read("docs/SECURITY_TESTS.md");
    let proofs = rows(&page, &HEADER);
    assert!(proofs.len() > 40, "the tables moved: this test reads nothing");
    for row in &proofs {
        let [point, _, tests, ..] = &row[..] else { unreachable!("rows has five cells") };
        if names(tests, 1).next().is_none() {
            problems.push(format!("SECURITY_TESTS.md: {point} names no test"));
        }
        let missing = names(tests, 1).filter(|name| !functions.contains(*name));
        problems.extend(missing.map(|name| format!("SECURITY_TESTS.md: no test `{name}`")));
    }
    let page = sources::read("docs/SECURITY.md");
    let missing = names(&page, MIN_WORDS).filter(|name| !functions.contains(*name));
    problems.extend(missing.map(|name| format!("SECURITY.md: no test `{name}`")));
    assert!(problems.is_empty(), "correct these names:\n{}", problems.join("\n"));
}

#[test]
fn only_names_of_enough_words_count_as_tests() {
    let text = "`a_key_of_one_tenant_stays` and `key_not_held`, `GET /api`, `--public-url`";
    assert_eq!(names(text, MIN_WORDS).collect::<Vec<_>>(), ["a_key_of_one_tenant_stays"]);
    assert_eq!(names(text, 1).count(), 2);
}
