//! Target expressions: rejected at an existing position, or printed and parsed again with the same
//! result.

use muster_server::domain::fleet::agent::AgentLevel;
use muster_server::domain::fleet::target::expression::Expression;
use muster_server::domain::fleet::target::facts::Facts;
use muster_server::domain::fleet::target::syntax::MAX_EXPRESSION_BYTES;
use muster_server::domain::ids::AgentId;
use uuid::Uuid;

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Expression>() {
        Ok(expression) => {
            assert!(text.len() <= MAX_EXPRESSION_BYTES);
            let printed = expression.to_string();
            // An expression at the length limit may print longer, and is then rejected.
            if printed.len() <= MAX_EXPRESSION_BYTES {
                assert_eq!(printed.parse().as_ref(), Ok(&expression), "{printed}");
            }
            let facts = facts(text);
            let negated = Expression::Not(Box::new(expression.clone()));
            assert_ne!(expression.matches(&facts), negated.matches(&facts));
        }
        Err(refusal) => {
            super::check_refusal(&refusal);
            let characters = text.chars().count();
            assert!((1..=characters + 1).contains(&refusal.column), "{refusal} in {characters}");
        }
    }
}

/// An agent whose facts equal the expression's text: the hardest one to match.
fn facts(text: &str) -> Facts {
    Facts {
        id: AgentId(Uuid::from_u128(1)),
        name: text.to_owned(),
        hostname: text.chars().rev().collect(),
        os: format!("linux {text}"),
        arch: "x86_64".into(),
        service_manager: String::new(),
        version: text.repeat(2),
        level: AgentLevel::Full,
        tags: text.split([' ', ':']).map(str::to_owned).take(64).collect(),
        is_online: text.len().is_multiple_of(2),
        host: [("role".to_owned(), vec![text.to_owned()])].into(),
    }
}
