//! What is wrong with an expression, where, and what was expected there.

use crate::domain::name::clean;

/// Longest expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;
/// How deep brackets and `!` may lie in each other.
pub const MAX_EXPRESSION_DEPTH: usize = 64;

/// The facts that there are.
pub const FACTS: [&str; 9] =
    ["tag", "name", "hostname", "os", "arch", "version", "id", "status", "level"];

/// How like a word must be to one that there is, to be taken for a slip of the fingers.
const LIKENESS: f64 = 0.8;
/// How much of what was found is repeated, in characters.
const MAX_SHOWN_CHARS: usize = 40;

/// An expression that can't be read.
///
/// Units: `column` counts characters from 1; one behind the last is the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ExpressionError {
    pub column: usize,
    pub problem: Problem,
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the expression is empty; `all` means every agent")]
    Empty,
    #[error("an expression has at most {MAX_EXPRESSION_BYTES} bytes; give ids or tags instead")]
    TooLong,
    #[error("brackets and `!` lie at most {MAX_EXPRESSION_DEPTH} deep in each other")]
    TooDeep,
    #[error("expected a condition such as tag:web, not {found}")]
    NoCondition { found: String },
    #[error("`{word}` alone is no condition; write tag:{word} or name:{word}")]
    BareWord { word: String },
    #[error("there is no fact `{word}`{}; use {}", did_you_mean(word), enumerated())]
    UnknownFact { word: String },
    #[error("`{fact}:` wants its value right behind it, in \"…\" if it holds spaces, not {found}")]
    NoValue { fact: &'static str, found: String },
    #[error("`{fact}` is {expected}, not {found}")]
    WrongValue { fact: &'static str, expected: &'static str, found: String },
    #[error("expected `&` or `|` before {found}")]
    NoOperator { found: String },
    #[error("a value that holds `{found}` is written in quotes, as in name:\"my host\"")]
    NeedsQuotes { found: char },
    #[error("this bracket is not closed; expected `)` at the end")]
    OpenBracket,
    #[error("this bracket closes none")]
    StrayBracket,
    #[error("this quote is not closed; expected `\"` at the end")]
    OpenQuote,
    #[error("behind a backslash stands one of \\ \" * ?")]
    WrongEscape,
}

/// What stands at the beginning of `rest`, as a message shows it.
pub fn shown(rest: &str) -> String {
    match rest.split_whitespace().next() {
        None => "the end".to_owned(),
        Some(word) => format!("`{}`", clean(word, MAX_SHOWN_CHARS)),
    }
}

/// A word as a message repeats it.
pub fn cut(word: &str) -> String {
    clean(word, MAX_SHOWN_CHARS)
}

fn did_you_mean(word: &str) -> String {
    let word = word.to_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(known, &word);
    let nearest = FACTS.into_iter().max_by(|one, two| likeness(one).total_cmp(&likeness(two)));
    nearest
        .filter(|known| likeness(known) >= LIKENESS)
        .map_or_else(String::new, |known| format!(" (did you mean `{known}`?)"))
}

fn enumerated() -> String {
    let (last, others) = FACTS.split_last().unwrap_or((&"", &[]));
    format!("{} or {last}", others.join(", "))
}
