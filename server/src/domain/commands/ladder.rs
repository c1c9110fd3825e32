//! The ladder: what work needs by its reach, which is the number of its agents and their tags. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::work::WorkKind;
use crate::domain::ids::AgentId;

/// Most steps of a tenant's ladder.
pub const MAX_LADDER_STEPS: usize = 20;

/// What a step asks for, the strictest last.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LadderDemand {
    /// The request repeats the number of its agents in `confirm_agent_count`.
    Confirm,
    /// Another person approves it.
    Approve,
    /// It is refused.
    Refuse,
}

/// Holds for work with at least this many agents, or with at least this many that have a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LadderStep {
    /// Only agents with this tag count. `None`: all agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    pub from_agents: u32,
    pub demand: LadderDemand,
}

/// Every step of a tenant. An empty one asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ladder(pub Vec<LadderStep>);

/// The number of agents that the caller confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// A request names exactly its agents.
    Exactly(u64),
    /// A schedule names the most that a fire may reach, because its agents are chosen later.
    AtMost(u64),
}

impl Ladder {
    /// The strictest step that holds for the work. `agents`: all of the request, with their tags.
    pub fn step(&self, kind: WorkKind<'_>, agents: &[(AgentId, &[String])]) -> Option<&LadderStep> {
        self.steps_about(kind).filter(|step| step.holds(agents)).max_by_key(|step| step.demand)
    }

    /// The steps that hold for this kind of work on enough agents.
    pub fn steps_about(&self, kind: WorkKind<'_>) -> impl Iterator<Item = &LadderStep> {
        let steps = match kind {
            WorkKind::Question | WorkKind::Control | WorkKind::AgentChange => &[][..],
            WorkKind::Script(_) | WorkKind::AdHoc | WorkKind::Steps(_) | WorkKind::LifeCycle => {
                self.0.as_slice()
            }
        };
        steps.iter()
    }
}

impl LadderStep {
    fn holds(&self, agents: &[(AgentId, &[String])]) -> bool {
        let count = match &self.tag {
            None => agents.len(),
            Some(tag) => agents.iter().filter(|(_, tags)| tags.contains(tag)).count(),
        };
        count >= self.from_agents as usize
    }
}

impl fmt::Display for LadderStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or more agents", self.from_agents)?;
        match &self.tag {
            Some(tag) => write!(f, " with the tag `{tag}`"),
            None => Ok(()),
        }
    }
}

impl Confirmation {
    /// True if it covers this many agents.
    pub fn covers(self, agents: usize) -> bool {
        match self {
            Self::Exactly(count) => agents as u64 == count,
            Self::AtMost(count) => agents as u64 <= count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(tag: Option<&str>, from_agents: u32, demand: LadderDemand) -> LadderStep {
        LadderStep { tag: tag.map(str::to_owned), from_agents, demand }
    }

    #[test]
    fn strictest_step_that_holds_decides_in_any_order() {
        let ladder = Ladder(vec![
            step(None, 100, LadderDemand::Refuse),
            step(None, 2, LadderDemand::Confirm),
            step(Some("critical"), 2, LadderDemand::Approve),
        ]);
        let (critical, none) = (vec!["critical".to_owned()], Vec::new());
        let fleet = |critical_count: usize, count: usize| -> Vec<(AgentId, &[String])> {
            let tags = |n| if n < critical_count { critical.as_slice() } else { none.as_slice() };
            (0..count).map(|n| (AgentId::new(), tags(n))).collect()
        };
        let demand = |kind, critical_count, count| {
            ladder.step(kind, &fleet(critical_count, count)).map(|step| step.demand)
        };
        let script = WorkKind::Script("deploy");
        assert_eq!(demand(script, 1, 1), None);
        assert_eq!(demand(script, 1, 2), Some(LadderDemand::Confirm));
        assert_eq!(demand(script, 2, 2), Some(LadderDemand::Approve));
        assert_eq!(demand(script, 0, 99), Some(LadderDemand::Confirm));
        assert_eq!(demand(WorkKind::LifeCycle, 2, 100), Some(LadderDemand::Refuse));
        for kind in [WorkKind::Question, WorkKind::Control, WorkKind::AgentChange] {
            assert_eq!(demand(kind, 2, 100), None, "{kind:?}");
        }
    }

    #[test]
    fn confirmed_number_is_exact_for_a_request_and_a_bound_for_a_schedule() {
        let covered =
            |confirmation: Confirmation| [1, 2, 3].map(|count| confirmation.covers(count));
        assert_eq!(covered(Confirmation::Exactly(2)), [false, true, false]);
        assert_eq!(covered(Confirmation::AtMost(2)), [true, true, false]);
    }
}
