//! The parser of expressions. `!` binds tighter than `&`, and `&` tighter than `|`:
//!
//! ```text
//! disjunction = conjunction { ("|" | "or") conjunction }
//! conjunction = term { ("&" | "and") term }
//! term        = ("!" | "not") term | "(" disjunction ")" | "all" | fact ":" value
//!             | "fact" ":" name ("=" | "!=") value
//! value       = bare characters | '"' characters, with \ before \ " * ? '"'
//! ```
//!
//! A term that does not parse is a final error ([`ErrMode::Cut`]), so that the message describes
//! the first error, not the last alternative.

use std::str::FromStr;

use muster_protocol::facts::{is_fact_name, is_fact_name_char};
use winnow::combinator::{alt, opt, separated};
use winnow::error::{ErrMode, ModalResult, ParserError};
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location as _};
use winnow::token::{any, one_of, take_while};

use super::expression::{Expression, Fact};
use super::pattern::{Pattern, PatternPiece, is_bare};
use super::syntax::{
    ExpressionError, FACTS, HOST_FACT, MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH,
    MAX_EXPRESSION_FACTS, SyntaxProblem, cut, shown,
};

type Input<'a> = LocatingSlice<&'a str>;
type Parsed<T> = ModalResult<T, ParseFault>;

/// An error, at an offset in bytes.
#[derive(Debug)]
struct ParseFault {
    at: usize,
    problem: SyntaxProblem,
}

impl ParserError<Input<'_>> for ParseFault {
    type Inner = Self;

    fn from_input(input: &Input<'_>) -> Self {
        let problem = SyntaxProblem::NoCondition { found: shown(input) };
        Self { at: input.current_token_start(), problem }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
    }
}

/// Parses an expression.
///
/// # Errors
/// [`ExpressionError`], with the column of the first error.
pub fn parse(text: &str) -> Result<Expression, ExpressionError> {
    let error = |ParseFault { at, problem }| {
        let before = text.char_indices().take_while(|(index, _)| *index < at);
        ExpressionError { column: before.count() + 1, problem }
    };
    if text.len() > MAX_EXPRESSION_BYTES {
        return Err(error(ParseFault {
            at: MAX_EXPRESSION_BYTES,
            problem: SyntaxProblem::TooLong,
        }));
    }
    whole.parse(LocatingSlice::new(text)).map_err(|refused| error(refused.into_inner()))
}

fn whole(input: &mut Input<'_>) -> Parsed<Expression> {
    space(input)?;
    if input.is_empty() {
        return refuse(input.current_token_start(), SyntaxProblem::Empty);
    }
    let start = input.current_token_start();
    let expression = disjunction(input, 0)?;
    if input.starts_with(')') {
        return refuse(input.current_token_start(), SyntaxProblem::StrayBracket);
    }
    if !input.is_empty() {
        return refuse_leftover(input);
    }
    if expression.fact_names().len() > MAX_EXPRESSION_FACTS {
        return refuse(start, SyntaxProblem::TooManyFacts);
    }
    Ok(expression)
}

/// Reads until the first character that is not part of the word, without trailing spaces.
fn disjunction(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let conjunction = |input: &mut Input<'_>| conjunction(input, depth);
    let or = |input: &mut Input<'_>| operator(input, '|', "or");
    let terms: Vec<_> = separated(1.., conjunction, or).parse_next(input)?;
    space(input)?;
    Ok(joined(terms, Expression::Or))
}

fn conjunction(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let term = |input: &mut Input<'_>| term(input, depth);
    let and = |input: &mut Input<'_>| operator(input, '&', "and");
    let terms: Vec<_> = separated(1.., term, and).parse_next(input)?;
    Ok(joined(terms, Expression::And))
}

fn joined(terms: Vec<Expression>, join: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    match <[Expression; 1]>::try_from(terms) {
        Ok([only]) => only,
        Err(terms) => join(terms),
    }
}

fn operator(input: &mut Input<'_>, sign: char, word: &str) -> Parsed<()> {
    let keyword = take_while(1.., is_word).verify(|found: &str| found.eq_ignore_ascii_case(word));
    (space, alt((sign.void(), keyword.void())), space).void().parse_next(input)
}

fn term(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let start = input.current_token_start();
    if depth > MAX_EXPRESSION_DEPTH {
        return refuse(start, SyntaxProblem::TooDeep);
    }
    match opt(alt((one_of(['(', '!']).take(), take_while(1.., is_word)))).parse_next(input)? {
        Some("(") => bracketed(input, start, depth + 1),
        Some("!") => negated(input, depth + 1),
        Some(word) if input.starts_with(':') => fact(input, start, word),
        Some(word) if word.eq_ignore_ascii_case("not") => negated(input, depth + 1),
        Some(word) if word.eq_ignore_ascii_case("all") => Ok(Expression::All),
        Some(word) => bare_word(input, start, word),
        None => refuse(start, SyntaxProblem::NoCondition { found: shown(input) }),
    }
}

fn bare_word(input: &mut Input<'_>, start: usize, word: &str) -> Parsed<Expression> {
    if word.eq_ignore_ascii_case(HOST_FACT) {
        let found = shown(input);
        return refuse(input.current_token_start(), SyntaxProblem::NoFactName { found });
    }
    if let Some(fact) = known_fact(word) {
        return refuse(
            input.current_token_start(),
            SyntaxProblem::NoValue { fact, found: shown(input) },
        );
    }
    let more = take_while(0.., is_part_of_value).parse_next(input)?;
    refuse(start, SyntaxProblem::BareWord { word: cut(&format!("{word}{more}")) })
}

fn known_fact(word: &str) -> Option<&'static str> {
    FACTS.into_iter().find(|known| word.eq_ignore_ascii_case(known))
}

fn negated(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    space(input)?;
    Ok(Expression::Not(Box::new(term(input, depth)?)))
}

fn bracketed(input: &mut Input<'_>, start: usize, depth: usize) -> Parsed<Expression> {
    space(input)?;
    let inner = disjunction(input, depth)?;
    if input.is_empty() {
        return refuse(start, SyntaxProblem::OpenBracket);
    }
    match opt(')').parse_next(input)? {
        Some(_) => Ok(inner),
        None => refuse_leftover(input),
    }
}

fn fact(input: &mut Input<'_>, start: usize, word: &str) -> Parsed<Expression> {
    let Some(name) = known_fact(word) else {
        return refuse(start, SyntaxProblem::UnknownFact { word: cut(word) });
    };
    ':'.void().parse_next(input)?;
    if name == HOST_FACT {
        return host_fact(input);
    }
    let at = input.current_token_start();
    let none = |found| SyntaxProblem::NoValue { fact: name, found };
    let value = value(input, none)?;
    let wrong = |expected| {
        let found = cut(&value.to_string());
        ParseFault { at, problem: SyntaxProblem::WrongValue { fact: name, expected, found } }
    };
    let fact = Fact::new(name, &value).map_err(|expected| ErrMode::Cut(wrong(expected)))?;
    Ok(Expression::Fact(fact))
}

/// The rest of `fact:NAME=VALUE`, or of `fact:NAME!=VALUE`, which is its negation.
fn host_fact(input: &mut Input<'_>) -> Parsed<Expression> {
    let at = input.current_token_start();
    let name = take_while(0.., is_fact_name_char).parse_next(input)?;
    if !is_fact_name(name) {
        let found = if name.is_empty() { shown(input) } else { cut(name) };
        return refuse(at, SyntaxProblem::NoFactName { found });
    }
    let Some(comparison) = opt(alt(("!=", "="))).parse_next(input)? else {
        let problem = SyntaxProblem::NoComparison { name: cut(name), found: shown(input) };
        return refuse(input.current_token_start(), problem);
    };
    let value = value(input, |found| SyntaxProblem::NoFactValue { name: cut(name), found })?;
    let fact = Expression::Fact(Fact::Host { name: name.to_owned(), value });
    Ok(if comparison == "=" { fact } else { Expression::Not(Box::new(fact)) })
}

fn value(input: &mut Input<'_>, none: impl FnOnce(String) -> SyntaxProblem) -> Parsed<Pattern> {
    let start = input.current_token_start();
    if opt('"').parse_next(input)?.is_some() {
        return quoted(input, start);
    }
    match opt(take_while(1.., is_part_of_value)).parse_next(input)? {
        Some(text) => Ok(Pattern(text.chars().map(piece).collect())),
        None => refuse(start, none(shown(input))),
    }
}

fn quoted(input: &mut Input<'_>, start: usize) -> Parsed<Pattern> {
    let mut pieces = Vec::new();
    loop {
        let at = input.current_token_start();
        match opt(any).parse_next(input)? {
            None => return refuse(start, SyntaxProblem::OpenQuote),
            Some('"') => return Ok(Pattern(pieces)),
            Some('\\') => match opt(one_of(['\\', '"', '*', '?'])).parse_next(input)? {
                Some(meant) => pieces.push(PatternPiece::Char(meant)),
                None => return refuse(at, SyntaxProblem::WrongEscape),
            },
            Some(c) => pieces.push(piece(c)),
        }
    }
}

fn piece(c: char) -> PatternPiece {
    match c {
        '*' => PatternPiece::Many,
        '?' => PatternPiece::One,
        c => PatternPiece::Char(c),
    }
}

fn space(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

fn is_part_of_value(c: char) -> bool {
    is_bare(c) || matches!(c, '*' | '?')
}

fn refuse<T>(at: usize, problem: SyntaxProblem) -> Parsed<T> {
    Err(ErrMode::Cut(ParseFault { at, problem }))
}

/// The error where an operator is expected.
fn refuse_leftover<T>(input: &Input<'_>) -> Parsed<T> {
    let problem = match input.chars().next() {
        Some(c) if !is_word(c) && !matches!(c, '(' | ')' | '!' | '"' | '&' | '|') => {
            SyntaxProblem::NeedsQuotes { found: c }
        }
        _ => SyntaxProblem::NoOperator { found: shown(input) },
    };
    refuse(input.current_token_start(), problem)
}
