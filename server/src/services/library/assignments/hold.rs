//! Why an assignment does not reach an agent of its target: its maker may not run it there any more, or a
//! rule that was made later asks for an approval.

use std::collections::HashMap;

use super::Assignments;
use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::access::principal::Scope;
use crate::domain::commands::work::{WorkKind, may_be_sent};
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::AgentId;
use crate::domain::library::assignment_records::AssignmentRecord;
use crate::store::StoreError;

/// Why the server does not send an assignment to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentHold {
    /// The key or the member that made it may not run it there, or not any more.
    MakerNotPermitted,
    /// This rule of approval was made after the assignment, and the agent has joined since.
    ApprovalNeeded { rule: String },
    /// The assignment is new, and no wave has reached the agent.
    WaveNotStarted,
}

impl AssignmentHold {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MakerNotPermitted => "maker_not_permitted",
            Self::ApprovalNeeded { .. } => "approval_needed",
            Self::WaveNotStarted => "wave_not_started",
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::MakerNotPermitted => {
                "the key or the person that made the assignment may not run it on this agent; let another one change its target, which makes it theirs".to_owned()
            }
            Self::WaveNotStarted => {
                "no wave of the rollout has reached this agent; it gets the version with its wave"
                    .to_owned()
            }
            Self::ApprovalNeeded { rule } => format!(
                "the rule `{rule}` asks for an approval of this work, and was made before this agent joined; run it as a job, or change the rule"
            ),
        }
    }
}

impl Assignments {
    /// Which of these agents do not get the assignment, and why. `agent_count`: of its target.
    pub(super) async fn holds(
        &self,
        row: &AssignmentRecord,
        agents: impl Iterator<Item = &Facts>,
        agent_count: usize,
    ) -> Result<HashMap<AgentId, AssignmentHold>, StoreError> {
        let tenant = self.store.tenant(row.tenant_id);
        let is_valid = tenant.is_valid_requester(row.created_by, self.clock.now()).await?;
        let maker = tenant.rights_of_requester(row.created_by).await?;
        let agents: Vec<&Facts> = agents.collect();
        let mut holds = self.rule_holds(row, &agents, agent_count).await?;
        for facts in agents {
            let may = maker.as_ref().is_none_or(|maker| may_run(maker, row, facts, agent_count));
            if !is_valid || !may {
                holds.insert(facts.id, AssignmentHold::MakerNotPermitted);
            }
        }
        Ok(holds)
    }

    /// Agents on which a rule of approval holds the assignment. What an agent had before the rule was made
    /// continues there: its report shows that it had it.
    pub(super) async fn rule_holds(
        &self,
        row: &AssignmentRecord,
        agents: &[&Facts],
        agent_count: usize,
    ) -> Result<HashMap<AgentId, AssignmentHold>, StoreError> {
        let script = row.script();
        let kind = WorkKind::Script(&script);
        let rules = self.guard.rules_of(row.tenant_id, kind).await?;
        let mut holds = HashMap::new();
        if rules.is_empty() {
            return Ok(holds);
        }
        for facts in agents {
            let one = [(facts.id, facts.tags.as_slice())];
            let rule =
                rules.iter().find(|rule| rule.condition.matches_one(kind, &one, agent_count));
            if let Some(rule) = rule {
                let rule = rule.name.clone();
                holds.insert(facts.id, AssignmentHold::ApprovalNeeded { rule });
            }
        }
        let ids: Vec<AgentId> = holds.keys().copied().collect();
        let states = self.store.tenant(row.tenant_id).assignment_states(row.id, &ids).await?;
        holds.retain(|id, _| !states.contains_key(id));
        Ok(holds)
    }
}

/// True if the key that made an assignment may still do so, for this agent.
pub(super) fn may_run(
    maker: &KeyRights,
    row: &AssignmentRecord,
    facts: &Facts,
    agent_count: usize,
) -> bool {
    let script = row.script();
    let is_above = |most: u32| agent_count > most as usize;
    maker.scopes.contains(&Scope::SchedulesWrite)
        && may_be_sent(maker, WorkKind::Script(&script), facts.id, &facts.tags)
        && !maker.limits.max_fan_out.is_some_and(is_above)
}
