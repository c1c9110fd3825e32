//! The words that `docs/GLOSSARY.md` rejects are in no identifier and in no text for people.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proc_macro2::TokenStream;

use crate::readable_texts::{self, identifiers};
use crate::{sources, table};

const PAGE: &str = "docs/GLOSSARY.md";
/// The texts of the dashboard.
const CATALOGUE: &str = "web/src/messages/en.ts";

/// One entry of the column `never`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rejected {
    /// One or more words in lower case.
    words: Vec<String>,
    scope: WordScope,
    say: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum WordScope {
    Everywhere,
    Names,
    /// Names of one crate.
    Crate(String),
}

struct Exception {
    word: String,
    path: String,
}

struct Glossary {
    by_first_word: HashMap<String, Vec<Rejected>>,
    exceptions: Vec<Exception>,
}

impl Glossary {
    fn read(page: &str) -> Self {
        let mut by_first_word: HashMap<String, Vec<Rejected>> = HashMap::new();
        for row in table::rows(page, &["say", "for", "never", "avoid"]) {
            for entry in row[2].split(',').map(str::trim).filter(|entry| *entry != "–") {
                let (word, scope) = match entry.split_once(" (") {
                    Some((word, scope)) => (word, scope.trim_end_matches(')')),
                    None => (entry, ""),
                };
                let scope = match scope {
                    "" => WordScope::Everywhere,
                    "names" => WordScope::Names,
                    folder => {
                        assert!(sources::CRATES.contains(&folder), "unknown limit in `{entry}`");
                        WordScope::Crate(folder.to_owned())
                    }
                };
                let words: Vec<_> = word.split(' ').map(str::to_lowercase).collect();
                let entries = by_first_word.entry(words[0].clone()).or_default();
                entries.push(Rejected { words, scope, say: row[0].clone() });
            }
        }
        let exceptions = table::rows(page, &["word", "path", "reason"])
            .into_iter()
            .map(|row| {
                assert!(row[2].len() > 10, "an exception needs a reason: {row:?}");
                let path = row[1].trim_matches('`').to_owned();
                Exception { word: row[0].to_lowercase(), path }
            })
            .collect();
        Self { by_first_word, exceptions }
    }

    fn is_excepted(&self, rejected: &Rejected, path: &str) -> bool {
        let word = rejected.words.join(" ");
        self.exceptions.iter().any(|known| known.word == word && path.starts_with(&known.path))
    }

    /// The entries that these words contain, each once.
    fn in_words<'a>(
        &'a self,
        words: &[String],
        is_checked: impl Fn(&WordScope) -> bool,
    ) -> Vec<&'a Rejected> {
        let mut found: Vec<&Rejected> = Vec::new();
        for (index, word) in words.iter().enumerate() {
            for rejected in self.by_first_word.get(word).into_iter().flatten() {
                let is_here = words[index..].starts_with(&rejected.words);
                if is_here && is_checked(&rejected.scope) && !found.contains(&rejected) {
                    found.push(rejected);
                }
            }
        }
        found
    }
}

/// `GroupBook`, `group_book` and `GROUP_BOOK` are `group` and `book`.
fn words_of_name(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for c in name.chars() {
        let starts_new = c == '_' || (c.is_uppercase() && was_lower);
        if starts_new && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c != '_' {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn words_of_text(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// The text of a page without fenced blocks, code spans and addresses of links.
fn prose(page: &str) -> String {
    let mut text = String::new();
    let mut is_fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            let outside = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
            for (index, part) in outside.split("](").enumerate() {
                let rest =
                    if index == 0 { part } else { part.split_once(')').map_or("", |it| it.1) };
                text.push_str(rest);
                text.push(' ');
            }
            text.push('\n');
        }
    }
    text
}

fn report(rejected: &Rejected, path: &str, place: &str) -> String {
    format!("{path}: {place}: not \"{}\", say {}", rejected.words.join(" "), rejected.say)
}

fn problems_in_code(glossary: &Glossary, source: &sources::SourceFile) -> Vec<String> {
    let mut found = Vec::new();
    let tokens: TokenStream = source.text.parse().expect("a Rust source");
    let mut names = BTreeSet::new();
    identifiers(tokens.clone(), &mut names);
    let is_name_checked = |scope: &WordScope| match scope {
        WordScope::Everywhere | WordScope::Names => true,
        WordScope::Crate(folder) => folder == source.folder,
    };
    for name in &names {
        for rejected in glossary.in_words(&words_of_name(name), is_name_checked) {
            found.push((rejected.clone(), format!("`{name}`")));
        }
    }
    for text in readable_texts::of_source(&source.text, tokens) {
        for rejected in
            glossary.in_words(&words_of_text(&text), |scope| *scope == WordScope::Everywhere)
        {
            found.push((rejected.clone(), text.trim().to_owned()));
        }
    }
    found.retain(|(rejected, _)| !glossary.is_excepted(rejected, &source.path));
    found.into_iter().map(|(rejected, place)| report(&rejected, &source.path, &place)).collect()
}

fn problems_on_page(glossary: &Glossary, source: &sources::SourceFile) -> Vec<String> {
    let words = words_of_text(&prose(&source.text));
    glossary
        .in_words(&words, |scope| *scope == WordScope::Everywhere)
        .into_iter()
        .filter(|rejected| !glossary.is_excepted(rejected, &source.path))
        .map(|rejected| report(rejected, &source.path, "text"))
        .collect()
}

/// Names and texts of the dashboard's catalogue, whose keys are written in camel case.
fn problems_in_catalogue(glossary: &Glossary, path: &str, text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
    let parts = text.split(|c| !is_part(c)).filter(|part| !part.is_empty());
    let words: Vec<_> = parts.flat_map(words_of_name).collect();
    glossary
        .in_words(&words, |scope| *scope == WordScope::Everywhere)
        .into_iter()
        .map(|rejected| report(rejected, path, "text"))
        .collect()
}

#[test]
fn no_word_of_the_glossary_is_used_that_it_rejects() {
    let glossary = Glossary::read(&sources::read(PAGE));
    assert!(
        glossary.by_first_word.len() > 30,
        "the table of {PAGE} changed: this test reads nothing"
    );
    let mut by_place: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources::rust_files(&sources::CRATES) {
        by_place.insert(source.path.clone(), problems_in_code(&glossary, &source));
    }
    for source in sources::pages().iter().filter(|source| source.path != PAGE) {
        by_place.insert(source.path.clone(), problems_on_page(&glossary, source));
    }
    let texts = sources::read(CATALOGUE);
    assert!(texts.len() > 10_000, "{CATALOGUE} moved: this test reads nothing");
    by_place.insert(CATALOGUE.into(), problems_in_catalogue(&glossary, CATALOGUE, &texts));
    let problems: Vec<_> = by_place.into_values().flatten().collect();
    assert!(
        problems.is_empty(),
        "{} words are rejected by {PAGE}; use the word that it names, or add an exception with its reason there:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn names_and_pages_are_split_into_words() {
    assert_eq!(words_of_name("GroupBook2"), ["group", "book2"]);
    assert_eq!(words_of_name("VERDICT_MS"), ["verdict", "ms"]);
    assert_eq!(words_of_name("_go_back"), ["go", "back"]);
    assert_eq!(words_of_text("A wish; `x`, isn't"), ["a", "wish", "x", "isn't"]);
    let page = "one `two` [three](four) five\n```\nsix\n```\nseven";
    assert_eq!(words_of_text(&prose(page)), ["one", "three", "five", "seven"]);
}

#[test]
fn rejected_words_are_found_in_names_help_errors_and_pages() {
    let page = "| say | for | never | avoid |\n|---|---|---|---|\n\
                | result | an end | verdict, group book, job (agent), trying (names) | – |\n\n\
                | word | path | reason |\n|---|---|---|\n| verdict | `old/` | kept for old readers |\n";
    let glossary = Glossary::read(page);
    let in_code = |folder: &'static str, path: &str, text: &str| {
        problems_in_code(
            &glossary,
            &sources::SourceFile { folder, path: path.into(), text: text.into() },
        )
        .len()
    };
    assert_eq!(in_code("server", "a", "fn verdict_of(group_book: GroupBooks) {}"), 2);
    assert_eq!(in_code("agent", "a", "struct JobLock; fn trying() {}"), 2);
    assert_eq!(in_code("server", "a", "struct JobLock;"), 0);
    assert_eq!(in_code("server", "old/a", "struct Verdict;"), 0);
    assert_eq!(in_code("cli", "a", "/// The verdict.\n#[derive(clap::Args)] struct A;"), 1);
    assert_eq!(in_code("cli", "a", "/// The verdict, trying.\nstruct A;"), 0);
    assert_eq!(in_code("cli", "a", "#[derive(Error)] enum E { #[error(\"no verdict\")] A }"), 1);
    assert_eq!(in_code("cli", "a", "fn f() { tracing::info!(\"a verdict\"); }"), 1);
    assert_eq!(in_code("cli", "a", "fn f() { E { detail: \"a verdict\" } }"), 1);
    let in_catalogue = |text: &str| problems_in_catalogue(&glossary, "en.ts", text).len();
    assert_eq!(in_catalogue("{ aVerdictOf: 'x' }, { b: 'the verdict' }"), 1);
    assert_eq!(in_catalogue("{ result: 'fine' }"), 0);
    let on_page = |text: &str| {
        problems_on_page(
            &glossary,
            &sources::SourceFile { folder: "", path: "p".into(), text: text.into() },
        )
        .len()
    };
    assert_eq!(on_page("Trying a verdict"), 1);
    assert_eq!(on_page("Trying a `verdict`"), 0);
}
