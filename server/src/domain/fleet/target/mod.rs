//! Which agents something is for: ids, tags, or an expression. Pure: what is known of agents is
//! passed in.

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
use self::facts::Facts;
use self::syntax::ExpressionError;
use crate::domain::ids::AgentId;
use crate::domain::name::{MAX_TAGS, check_tags};

/// Most ids that a target lists.
pub const MAX_IDS: usize = 10_000;

/// A target as the API takes it: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// These agents; 1 to 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<AgentId>>,
    /// Agents that have all of these tags; 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Agents of which this is true, such as `tag:web & os:linux & !name:db-*`; at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// A target that can be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Ids(BTreeSet<AgentId>),
    /// All of them; at least one.
    Tags(Vec<String>),
    Expression(Expression),
}

/// Why a target can't be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("give exactly one of `ids`, `tags` and `expression`")]
    NotOne,
    #[error("`ids` is empty; name at least one agent")]
    NoIds,
    #[error("`ids` lists {0} agents, and may list {MAX_IDS}; use tags or an expression")]
    TooManyIds(usize),
    #[error("`tags` is empty; name at least one, or give the expression `all` for every agent")]
    NoTags,
    #[error("`tags` has {0} tags, and may have {MAX_TAGS}")]
    TooManyTags(usize),
    #[error("`tags`: {0}; patterns such as web-* belong in an expression")]
    WrongTag(&'static str),
    #[error(transparent)]
    Expression(#[from] ExpressionError),
}

/// Who a target means, of the agents that were considered.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// In the order in which they were considered.
    pub agents: Vec<Facts>,
    /// Ids that the target names and that none of the agents has.
    pub unknown_ids: BTreeSet<AgentId>,
}

impl TargetError {
    /// Of an expression: the character, counted from 1, at which it goes wrong.
    pub fn column(&self) -> Option<usize> {
        match self {
            Self::Expression(error) => Some(error.column),
            _ => None,
        }
    }
}

impl Target {
    /// True if it looks at anything but ids and tags: at what hosts say of themselves, or at who
    /// is connected. An agent could make itself the target of something that is not for it.
    pub fn needs_facts(&self) -> bool {
        match self {
            Self::Ids(_) | Self::Tags(_) => false,
            Self::Expression(expression) => expression.needs_facts(),
        }
    }

    /// True if this agent is meant.
    pub fn matches(&self, facts: &Facts) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&facts.id),
            Self::Tags(tags) => tags.iter().all(|tag| facts.tags.contains(tag)),
            Self::Expression(expression) => expression.matches(facts),
        }
    }

    /// The ids that it names.
    pub fn ids(&self) -> BTreeSet<AgentId> {
        match self {
            Self::Ids(ids) => ids.clone(),
            Self::Tags(_) => BTreeSet::new(),
            Self::Expression(expression) => expression.ids(),
        }
    }
}

impl Chosen {
    /// Before any agent was considered.
    pub fn by(target: &Target) -> Self {
        Self { agents: Vec::new(), unknown_ids: target.ids() }
    }

    /// Considers an agent, and keeps it if it is meant.
    pub fn consider(&mut self, target: &Target, facts: Facts) {
        self.unknown_ids.remove(&facts.id);
        if target.matches(&facts) {
            self.agents.push(facts);
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
