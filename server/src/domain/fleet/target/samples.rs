//! Random agents and expressions for tests, over few letters so that they often match.

use proptest::prelude::*;
use uuid::Uuid;

use super::expression::{Expression, Fact};
use super::facts::{Facts, HostFacts};
use super::pattern::{Pattern, PatternPiece};
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::AgentId;

/// An agent with this name and otherwise plain facts.
pub fn facts(name: &str) -> Facts {
    Facts {
        id: AgentId(Uuid::from_u128(1)),
        name: name.to_owned(),
        hostname: format!("{name}.example"),
        os: "Linux 6.8.0-45-generic".into(),
        arch: "x86_64".into(),
        service_manager: "systemd".into(),
        version: "0.1.0".into(),
        level: AgentLevel::Full,
        tags: Vec::new(),
        is_online: true,
        host: HostFacts::new(),
    }
}

pub fn any_facts() -> impl Strategy<Value = Facts> {
    let text = || "[ab]{0,3}";
    let tags = prop::collection::vec("[ab]{1,2}", 0..3);
    let values = prop::collection::vec(text(), 1..3);
    let host = prop::collection::btree_map("[xy]", values, 0..3);
    let os = "(linux|darwin)? ?[ab]{0,2}";
    (0..3_u128, text(), text(), os, tags, any::<bool>(), level(), host).prop_map(
        |(id, name, hostname, os, tags, is_online, level, host)| Facts {
            id: AgentId(Uuid::from_u128(id)),
            arch: name.clone(),
            service_manager: String::new(),
            version: hostname.clone(),
            name,
            hostname,
            os,
            level,
            tags,
            is_online,
            host,
        },
    )
}

/// Expressions with values made of `piece`.
pub fn any_expression(
    piece: impl Strategy<Value = PatternPiece> + 'static,
) -> impl Strategy<Value = Expression> {
    let fact = any_fact(prop::collection::vec(piece, 0..4).prop_map(Pattern).boxed());
    let leaf = prop_oneof![1 => Just(Expression::All), 9 => fact.prop_map(Expression::Fact)];
    leaf.prop_recursive(5, 24, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
            several().prop_map(Expression::And),
            several().prop_map(Expression::Or),
        ]
    })
}

fn any_fact(pattern: BoxedStrategy<Pattern>) -> impl Strategy<Value = Fact> {
    prop_oneof![
        pattern.clone().prop_map(Fact::Tag),
        pattern.clone().prop_map(Fact::Name),
        pattern.clone().prop_map(Fact::Hostname),
        pattern.clone().prop_map(Fact::Os),
        pattern.clone().prop_map(Fact::Arch),
        pattern.clone().prop_map(Fact::Version),
        ("[xy]", pattern).prop_map(|(name, value)| Fact::Host { name, value }),
        (0..3_u128).prop_map(|id| Fact::Id(AgentId(Uuid::from_u128(id)))),
        any::<bool>().prop_map(Fact::IsOnline),
        level().prop_map(Fact::Level),
    ]
}

fn level() -> impl Strategy<Value = AgentLevel> {
    prop_oneof![Just(AgentLevel::Full), Just(AgentLevel::Basic)]
}

/// Pieces with any character.
pub fn any_piece() -> impl Strategy<Value = PatternPiece> {
    let odd = prop::sample::select(vec!['"', '\\', '*', '?', ' ', '(', '&', '|', '!', ':', '\n']);
    prop_oneof![
        any::<char>().prop_map(PatternPiece::Char),
        odd.prop_map(PatternPiece::Char),
        Just(PatternPiece::One),
        Just(PatternPiece::Many),
    ]
}

/// Pieces that occur in [`any_facts`].
pub fn meeting_piece() -> impl Strategy<Value = PatternPiece> {
    prop_oneof![
        Just(PatternPiece::Char('a')),
        Just(PatternPiece::Char('b')),
        Just(PatternPiece::One),
        Just(PatternPiece::Many)
    ]
}
