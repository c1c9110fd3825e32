//! Target expressions such as `tag:web & os:linux & !name:db-*`.

use std::collections::BTreeSet;
use std::fmt;

use uuid::Uuid;

use super::facts::{FactNames, Facts, HostFacts};
use super::pattern::Pattern;
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::AgentId;

/// A parsed expression.
///
/// `Display` uses brackets only where they are needed. The printed text parses to an equal
/// expression, but may be longer than the original. To keep an expression, store its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Every agent.
    All,
    /// Agents for which this condition is true.
    Fact(Fact),
    Not(Box<Self>),
    /// Two or more.
    And(Vec<Self>),
    /// Two or more.
    Or(Vec<Self>),
}

/// A condition on one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// One of its tags matches.
    Tag(Pattern),
    Name(Pattern),
    /// Case-insensitive, like host names.
    Hostname(Pattern),
    /// The family, or the first words of what the host reports; case-insensitive.
    Os(Pattern),
    /// Case-insensitive.
    Arch(Pattern),
    Version(Pattern),
    Id(AgentId),
    IsOnline(bool),
    Level(AgentLevel),
    /// The host reports a fact of this name, and one of its values matches; case-insensitive.
    Host {
        name: String,
        value: Pattern,
    },
}

impl Expression {
    /// True if the expression matches the agent.
    pub fn matches(&self, facts: &Facts) -> bool {
        match self {
            Self::All => true,
            Self::Fact(fact) => fact.is_true_of(facts),
            Self::Not(inner) => !inner.matches(facts),
            Self::And(terms) => terms.iter().all(|term| term.matches(facts)),
            Self::Or(terms) => terms.iter().any(|term| term.matches(facts)),
        }
    }

    /// True if an expression of ids and tags matches the agent. Conditions on anything else see an
    /// agent that reported nothing.
    pub fn matches_tags(&self, id: AgentId, tags: &[String]) -> bool {
        self.matches(&Facts {
            id,
            name: String::new(),
            hostname: String::new(),
            os: String::new(),
            arch: String::new(),
            service_manager: String::new(),
            version: String::new(),
            level: AgentLevel::Full,
            tags: tags.to_vec(),
            is_online: false,
            host: HostFacts::new(),
        })
    }

    /// Names of the facts that hosts report and that the expression uses.
    pub fn fact_names(&self) -> FactNames {
        let name = |fact: &Fact| match fact {
            Fact::Host { name, .. } => Some(name.clone()),
            _ => None,
        };
        self.facts().into_iter().filter_map(name).collect()
    }

    /// True if the expression uses anything other than ids and tags.
    pub fn needs_facts(&self) -> bool {
        let is_other = |fact: &Fact| !matches!(fact, Fact::Tag(_) | Fact::Id(_));
        self.facts().into_iter().any(is_other)
    }

    /// The ids in the expression.
    pub fn ids(&self) -> BTreeSet<AgentId> {
        let id = |fact: &Fact| match fact {
            Fact::Id(id) => Some(*id),
            _ => None,
        };
        self.facts().into_iter().filter_map(id).collect()
    }

    fn facts(&self) -> Vec<&Fact> {
        match self {
            Self::All => Vec::new(),
            Self::Fact(fact) => vec![fact],
            Self::Not(inner) => inner.facts(),
            Self::And(terms) | Self::Or(terms) => terms.iter().flat_map(Self::facts).collect(),
        }
    }

    /// Prints the expression inside an operator that binds at least this tightly.
    fn print(&self, f: &mut fmt::Formatter<'_>, around: Tightness) -> fmt::Result {
        let own = match self {
            Self::All | Self::Fact(_) | Self::Not(_) => Tightness::Not,
            Self::And(_) => Tightness::And,
            Self::Or(_) => Tightness::Or,
        };
        let (open, close) = if own < around { ("(", ")") } else { ("", "") };
        f.write_str(open)?;
        match self {
            Self::All => f.write_str("all")?,
            Self::Fact(fact) => write!(f, "{fact}")?,
            Self::Not(inner) => {
                f.write_str("!")?;
                inner.print(f, Tightness::Not)?;
            }
            Self::And(terms) => print_joined(f, terms, " & ", Tightness::Not)?,
            Self::Or(terms) => print_joined(f, terms, " | ", Tightness::And)?,
        }
        f.write_str(close)
    }
}

/// How tightly an operator binds, loosest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tightness {
    Or,
    And,
    Not,
}

fn print_joined(
    f: &mut fmt::Formatter<'_>,
    terms: &[Expression],
    operator: &str,
    around: Tightness,
) -> fmt::Result {
    for (index, term) in terms.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        term.print(f, around)?;
    }
    Ok(())
}

impl Fact {
    /// The condition with this name and value.
    ///
    /// # Errors
    /// A description of valid values.
    pub(super) fn new(name: &str, value: &Pattern) -> Result<Self, &'static str> {
        let literal = value.literal();
        let literal = literal.as_deref();
        match name {
            "tag" => Ok(Self::Tag(value.clone())),
            "name" => Ok(Self::Name(value.clone())),
            "hostname" => Ok(Self::Hostname(value.clone())),
            "os" => Ok(Self::Os(value.clone())),
            "arch" => Ok(Self::Arch(value.clone())),
            "version" => Ok(Self::Version(value.clone())),
            "status" => match literal {
                Some("online") => Ok(Self::IsOnline(true)),
                Some("offline") => Ok(Self::IsOnline(false)),
                _ => Err("online or offline"),
            },
            "level" => match literal {
                Some("full") => Ok(Self::Level(AgentLevel::Full)),
                Some("basic") => Ok(Self::Level(AgentLevel::Basic)),
                _ => Err("full or basic"),
            },
            _ => {
                let id = literal.and_then(|text| Uuid::try_parse(text).ok());
                id.map(|id| Self::Id(AgentId(id))).ok_or("a complete agent id")
            }
        }
    }

    fn is_true_of(&self, facts: &Facts) -> bool {
        match self {
            Self::Tag(pattern) => facts.tags.iter().any(|tag| pattern.matches(tag)),
            Self::Name(pattern) => pattern.matches(&facts.name),
            Self::Hostname(pattern) => pattern.matches_in_any_case(&facts.hostname),
            Self::Os(pattern) => {
                let is_family = |family| pattern.matches_in_any_case(family);
                facts.os_family().is_some_and(is_family)
                    || pattern.matches_first_words_in_any_case(&facts.os)
            }
            Self::Arch(pattern) => pattern.matches_in_any_case(&facts.arch),
            Self::Version(pattern) => pattern.matches(&facts.version),
            Self::Id(id) => facts.id == *id,
            Self::IsOnline(is_online) => facts.is_online == *is_online,
            Self::Level(level) => facts.level == *level,
            Self::Host { name, value } => facts
                .host
                .get(name)
                .is_some_and(|found| found.iter().any(|text| value.matches_in_any_case(text))),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, Tightness::Or)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(pattern) => write!(f, "tag:{pattern}"),
            Self::Name(pattern) => write!(f, "name:{pattern}"),
            Self::Hostname(pattern) => write!(f, "hostname:{pattern}"),
            Self::Os(pattern) => write!(f, "os:{pattern}"),
            Self::Arch(pattern) => write!(f, "arch:{pattern}"),
            Self::Version(pattern) => write!(f, "version:{pattern}"),
            Self::Id(id) => write!(f, "id:{id}"),
            Self::IsOnline(true) => f.write_str("status:online"),
            Self::IsOnline(false) => f.write_str("status:offline"),
            Self::Level(AgentLevel::Full) => f.write_str("level:full"),
            Self::Level(AgentLevel::Basic) => f.write_str("level:basic"),
            Self::Host { name, value } => write!(f, "fact:{name}={value}"),
        }
    }
}
