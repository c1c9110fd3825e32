//! Syntax errors of expressions: where they are, and what was expected there.

use crate::domain::name::clean;

/// Longest expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;
/// Deepest nesting of brackets and `!`.
pub const MAX_EXPRESSION_DEPTH: usize = 64;

/// Most facts of hosts that an expression may name: each is read for every agent.
pub const MAX_EXPRESSION_FACTS: usize = 16;

/// The prefix of the name of a fact that hosts report, in an expression.
pub const HOST_FACT: &str = "fact";
/// The known facts.
pub const FACTS: [&str; 10] =
    ["tag", "name", "hostname", "os", "arch", "version", "id", "status", "level", HOST_FACT];

/// How similar an unknown word must be to a known one to be suggested.
const LIKENESS: f64 = 0.8;
/// How much of the input an error repeats, in characters.
const MAX_SHOWN_CHARS: usize = 40;

/// An expression that does not parse.
///
/// Units: `column` counts characters from 1. One past the last character is the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ExpressionError {
    pub column: usize,
    pub problem: SyntaxProblem,
}

/// The error at that position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxProblem {
    #[error("the expression is empty; use `all` for every agent")]
    Empty,
    #[error("the expression is longer than {MAX_EXPRESSION_BYTES} bytes; use ids or tags instead")]
    TooLong,
    #[error("brackets and `!` are nested deeper than {MAX_EXPRESSION_DEPTH} levels")]
    TooDeep,
    #[error("expected a condition such as tag:web, not {found}")]
    NoCondition { found: String },
    #[error("`{word}` is not a condition; use tag:{word} or name:{word}")]
    BareWord { word: String },
    #[error("unknown fact `{word}`{}; use {}", did_you_mean(word), enumerated())]
    UnknownFact { word: String },
    #[error("expected a value after `{fact}:`, in \"…\" if it contains spaces, not {found}")]
    NoValue { fact: &'static str, found: String },
    #[error("`{fact}` must be {expected}, not {found}")]
    WrongValue { fact: &'static str, expected: &'static str, found: String },
    #[error("expected a name after `fact:`, as in fact:distribution=debian, not {found}")]
    NoFactName { found: String },
    #[error("expected `=` or `!=` and a value after `fact:{name}`, not {found}")]
    NoComparison { name: String, found: String },
    #[error("expected a value after `fact:{name}=`, in \"…\" if it contains spaces, not {found}")]
    NoFactValue { name: String, found: String },
    #[error("the expression names more than {MAX_EXPRESSION_FACTS} facts of hosts; use fewer")]
    TooManyFacts,
    #[error("expected `&` or `|` before {found}")]
    NoOperator { found: String },
    #[error("a value that contains `{found}` needs quotes, as in name:\"my host\"")]
    NeedsQuotes { found: char },
    #[error("this bracket is not closed; expected `)` at the end")]
    OpenBracket,
    #[error("this bracket has no opening bracket")]
    StrayBracket,
    #[error("this quote is not closed; expected `\"` at the end")]
    OpenQuote,
    #[error("a backslash must be followed by one of \\ \" * ?")]
    WrongEscape,
}

/// The start of `rest`, as an error shows it.
pub fn shown(rest: &str) -> String {
    match rest.split_whitespace().next() {
        None => "the end".to_owned(),
        Some(word) => format!("`{}`", clean(word, MAX_SHOWN_CHARS)),
    }
}

/// A word of the input, as an error repeats it.
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
