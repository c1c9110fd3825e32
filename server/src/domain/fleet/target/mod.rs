//! Targets: which agents a job, group or command is for, by ids, tags or an expression. Pure: the
//! caller passes in the facts.

pub mod expression;
pub mod facts;
mod grammar;
pub mod pattern;
#[cfg(test)]
mod samples;
pub mod syntax;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::expression::Expression;
use self::facts::{FactNames, Facts, HostFacts};
use self::syntax::ExpressionError;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::ids::AgentId;
use crate::domain::name::{MAX_TAGS, check_tags};

/// Most ids in a target.
pub const MAX_IDS: usize = 10_000;

/// A target. Exactly one of the fields must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Agents with these ids; 1 to 10,000.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<AgentId>>,
    /// Agents that have all of these tags; 1 to 64.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Agents that this expression matches, such as `tag:web & os:linux & !name:db-*`; at most 4
    /// KiB.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// A field that is given must have a value: `null` is refused, because it selects nothing.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A validated target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Ids(BTreeSet<AgentId>),
    /// All of these tags; at least one.
    Tags(Vec<String>),
    Expression(Expression),
}

/// The target is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("give exactly one of `ids`, `tags` and `expression`")]
    NotOne,
    #[error("`ids` is empty; add at least one agent id")]
    NoIds,
    #[error("`ids` has {0} ids, the limit is {MAX_IDS}; use tags or an expression")]
    TooManyIds(usize),
    #[error("`tags` is empty; add at least one tag, or use the expression `all` for every agent")]
    NoTags,
    #[error("`tags` has {0} tags, the limit is {MAX_TAGS}")]
    TooManyTags(usize),
    #[error("`tags`: {0}; use an expression for patterns such as web-*")]
    WrongTag(&'static str),
    #[error(transparent)]
    Expression(#[from] ExpressionError),
}

/// The agents that a target matches, among those that were tested.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// In the order in which they were tested, without what their hosts report: only the test needs it.
    pub agents: Vec<Facts>,
    /// Ids in the target that no tested agent has.
    pub unknown_ids: BTreeSet<AgentId>,
}

impl TargetError {
    /// The field of the target that is invalid.
    pub fn field_error(&self) -> FieldError {
        use FieldErrorCode::{Invalid, Required, TooMany};
        match self {
            Self::NotOne => FieldError::new("target", Invalid),
            Self::NoIds => FieldError::new("target.ids", Required),
            Self::TooManyIds(_) => FieldError::with_limit("target.ids", TooMany, MAX_IDS as u64),
            Self::NoTags => FieldError::new("target.tags", Required),
            Self::TooManyTags(_) => FieldError::with_limit("target.tags", TooMany, MAX_TAGS as u64),
            Self::WrongTag(_) => FieldError::new("target.tags", Invalid),
            Self::Expression(_) => FieldError::new("target.expression", Invalid),
        }
    }

    /// For an expression: the position of the error, in characters from 1.
    pub fn column(&self) -> Option<usize> {
        match self {
            Self::Expression(error) => Some(error.column),
            _ => None,
        }
    }
}

impl Target {
    /// True if the target uses anything other than ids and tags: facts that hosts report, or
    /// presence. Such a target is not safe for secrets, because an agent could report facts that
    /// match it.
    pub fn needs_facts(&self) -> bool {
        match self {
            Self::Ids(_) | Self::Tags(_) => false,
            Self::Expression(expression) => expression.needs_facts(),
        }
    }

    /// Names of the facts that hosts report and that the target uses.
    pub fn fact_names(&self) -> FactNames {
        match self {
            Self::Ids(_) | Self::Tags(_) => FactNames::new(),
            Self::Expression(expression) => expression.fact_names(),
        }
    }

    /// True if the target matches the agent.
    pub fn matches(&self, facts: &Facts) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&facts.id),
            Self::Tags(tags) => tags.iter().all(|tag| facts.tags.contains(tag)),
            Self::Expression(expression) => expression.matches(facts),
        }
    }

    /// The ids in the target.
    pub fn ids(&self) -> BTreeSet<AgentId> {
        match self {
            Self::Ids(ids) => ids.clone(),
            Self::Tags(_) => BTreeSet::new(),
            Self::Expression(expression) => expression.ids(),
        }
    }
}

impl Chosen {
    /// The result before any agent was tested.
    pub fn by(target: &Target) -> Self {
        Self { agents: Vec::new(), unknown_ids: target.ids() }
    }

    /// Tests an agent, and adds it if it matches.
    pub fn consider(&mut self, target: &Target, facts: Facts) {
        self.unknown_ids.remove(&facts.id);
        if target.matches(&facts) {
            self.agents.push(Facts { host: HostFacts::new(), ..facts });
        }
    }
}

impl TryFrom<TargetSpec> for Target {
    type Error = TargetError;

    fn try_from(spec: TargetSpec) -> Result<Self, Self::Error> {
        match spec {
            TargetSpec { ids: Some(ids), tags: None, expression: None } => match ids.len() {
                0 => Err(TargetError::NoIds),
                1..=MAX_IDS => Ok(Self::Ids(ids.into_iter().collect())),
                count => Err(TargetError::TooManyIds(count)),
            },
            TargetSpec { ids: None, tags: Some(tags), expression: None } => match tags.len() {
                0 => Err(TargetError::NoTags),
                1..=MAX_TAGS => {
                    check_tags(&tags).map_err(TargetError::WrongTag)?;
                    Ok(Self::Tags(tags))
                }
                count => Err(TargetError::TooManyTags(count)),
            },
            TargetSpec { ids: None, tags: None, expression: Some(text) } => {
                Ok(Self::Expression(text.parse()?))
            }
            _ => Err(TargetError::NotOne),
        }
    }
}
