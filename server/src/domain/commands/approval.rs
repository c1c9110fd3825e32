//! Approvals: which work waits for another person's yes, and how a request for it ends. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use super::command_state::EndReason;
use super::work::WorkKind;
use crate::domain::fleet::target::expression::Expression;
use crate::domain::ids::{AgentId, ApprovalId, ApprovalRuleId, CommandId, JobId, PrincipalId};
use crate::domain::time::Timestamp;

/// Most rules of one tenant.
pub const MAX_APPROVAL_RULES: usize = 100;
/// Longest time that a request waits for a decision: 30 days.
pub const MAX_APPROVAL_WAIT_MS: u64 = 30 * 24 * 3_600_000;
/// How long a request waits for a decision unless its rule says otherwise: 24 h.
pub const DEFAULT_APPROVAL_WAIT_MS: u64 = 24 * 3_600_000;
/// Longest reason of a decision, in characters.
pub const MAX_DECISION_CHARS: usize = 500;
/// Most different files of a script that a request for approval lists.
pub const MAX_LISTED_FILES: usize = 16;

/// Which work a rule is about: all given conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCondition {
    /// At least one agent of the request matches. It uses tags and ids only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// One of these scripts. With `ad_hoc` and `life_cycle`: one of the three.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scripts: BTreeSet<String>,
    #[serde(default)]
    pub ad_hoc: bool,
    #[serde(default)]
    pub life_cycle: bool,
    /// More agents than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_out_above: Option<u32>,
}

/// Work that matches waits until another person approves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRule {
    pub id: ApprovalRuleId,
    pub name: String,
    pub condition: RuleCondition,
    /// How long a request waits for a decision.
    pub wait_ms: u64,
    pub created_at: Timestamp,
    pub created_by: PrincipalId,
}

impl RuleCondition {
    /// True if the work needs an approval. `agents`: all of the request, with their tags.
    pub fn matches(&self, kind: WorkKind<'_>, agents: &[(AgentId, &[String])]) -> bool {
        self.matches_one(kind, agents, agents.len())
    }

    /// The same for some agents of a request with so many.
    pub fn matches_one(
        &self,
        kind: WorkKind<'_>,
        agents: &[(AgentId, &[String])],
        agent_count: usize,
    ) -> bool {
        let is_above = self.fan_out_above.is_none_or(|most| agent_count > most as usize);
        self.concerns(kind) && is_above && self.is_target_hit(agents)
    }

    /// True if it asks for the approval of this kind of work on some agents.
    pub fn concerns(&self, kind: WorkKind<'_>) -> bool {
        let is_any_kind = self.scripts.is_empty() && !self.ad_hoc && !self.life_cycle;
        match kind {
            WorkKind::Question | WorkKind::Control | WorkKind::AgentChange => false,
            WorkKind::Script(_) | WorkKind::AdHoc | WorkKind::Steps(_) => {
                let is_named = |part: Option<&str>| match part {
                    Some(script) => self.scripts.contains(script),
                    None => self.ad_hoc,
                };
                is_any_kind || kind.parts().any(is_named)
            }
            WorkKind::LifeCycle => is_any_kind || self.life_cycle,
        }
    }

    /// True if the rule can match life-cycle commands of some agent.
    pub fn concerns_life_cycle(&self) -> bool {
        self.life_cycle || (self.scripts.is_empty() && !self.ad_hoc)
    }

    fn is_target_hit(&self, agents: &[(AgentId, &[String])]) -> bool {
        let Some(target) = &self.target else { return true };
        // A text that does not parse was not stored by this server; the strict reading is safe.
        let Ok(target) = target.parse::<Expression>() else { return true };
        agents.iter().any(|(id, tags)| target.matches_tags(*id, tags))
    }
}

/// The state of a request for approval. Every state but `pending` is final.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for a decision.
    Pending,
    /// Another person approved it; the work was released.
    Approved,
    /// Another person refused it; the work ended.
    Refused,
    /// It was not decided in time; the work ended.
    Expired,
    /// The work ended before a decision: it was cancelled, or its agent was deleted.
    Withdrawn,
}

impl ApprovalState {
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Exactly what an approval is for. The stored work can't be changed; what the hosts report about the
/// script is compared when a person approves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedWork {
    /// SHA-256 over the sorted ids of the agents.
    pub agents_sha256: String,
    /// SHA-256 over the data of the command; secret parameters by a keyed digest.
    pub parameters_sha256: String,
    /// SHA-256 over what each host reports about the script; `None` for other work.
    #[serde(default)]
    pub script_sha256: Option<String>,
    /// The files that the manifests require.
    #[serde(default)]
    pub files: Vec<PinnedFile>,
}

/// A file of a script, and on how many of the agents it is required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PinnedFile {
    /// SHA-256 that the manifest requires; null if it requires none, or if the host did not report.
    pub sha256: Option<String>,
    pub agent_count: u64,
}

/// A request for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRecord {
    pub id: ApprovalId,
    pub state: ApprovalState,
    /// Names of the rules that asked for it.
    pub rules: Vec<String>,
    /// The job that waits, or the command.
    pub job_id: Option<JobId>,
    pub command_id: Option<CommandId>,
    /// `execute`, or a life-cycle command.
    pub command: String,
    /// Empty for an ad-hoc command; `None` for a life-cycle command.
    pub script: Option<String>,
    /// The data of the command, JSON, without secret parameters.
    pub data: String,
    pub agent_count: i64,
    pub pinned: PinnedWork,
    pub requested_by: PrincipalId,
    /// Its current name.
    pub requested_by_name: Option<String>,
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub decided_by: Option<PrincipalId>,
    pub decided_by_name: Option<String>,
    pub decided_at: Option<Timestamp>,
    pub reason: Option<String>,
}

/// The request for approval of a job or a command, in answers about that work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct WorkApproval {
    pub id: ApprovalId,
    pub state: ApprovalState,
    /// Names of the rules that asked for it.
    pub rules: Vec<String>,
    /// When the request ends without a decision.
    pub expires_at: Timestamp,
    pub decided_by: Option<PrincipalId>,
    /// Current name of who decided.
    pub decided_by_name: Option<String>,
    pub reason: Option<String>,
}

impl WorkApproval {
    /// Who refused it, and why; `None` unless it was refused with a reason.
    pub fn refusal(&self) -> Option<String> {
        let reason = self.reason.as_deref().filter(|_| self.state == ApprovalState::Refused)?;
        let name = self.decided_by_name.as_deref().unwrap_or("another person");
        let reason = reason.trim().trim_end_matches('.');
        Some(format!("{name} refused to approve it: {reason}. It was never sent"))
    }
}

/// Why work ended, with the name and the reason of who refused its approval.
pub fn end_sentence(reason: EndReason, approval: Option<&WorkApproval>) -> String {
    let is_refused = reason == EndReason::ApprovalRefused;
    let refusal = approval.filter(|_| is_refused).and_then(WorkApproval::refusal);
    refusal.unwrap_or_else(|| reason.sentence().to_owned())
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    fn agents(count: usize) -> Vec<AgentId> {
        (0..count).map(|_| AgentId::new()).collect()
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let web = vec!["web".to_owned()];
        let none: Vec<String> = Vec::new();
        let ids = agents(3);
        let fleet: Vec<(AgentId, &[String])> =
            vec![(ids[0], &web), (ids[1], &none), (ids[2], &none)];
        let scripts = BTreeSet::from(["deploy".to_owned()]);
        let rule = RuleCondition {
            target: Some("tag:web".into()),
            scripts,
            ad_hoc: true,
            life_cycle: false,
            fan_out_above: Some(1),
        };
        assert!(rule.matches(WorkKind::Script("deploy"), &fleet));
        assert!(rule.matches(WorkKind::AdHoc, &fleet));
        assert!(!rule.matches(WorkKind::Script("other"), &fleet));
        assert!(rule.matches(WorkKind::Steps("steps:other,deploy"), &fleet));
        assert!(rule.matches(WorkKind::Steps("steps:other,(argv)"), &fleet));
        assert!(!rule.matches(WorkKind::Steps("steps:other"), &fleet));
        assert!(!rule.matches(WorkKind::LifeCycle, &fleet));
        assert!(!rule.matches(WorkKind::AdHoc, &fleet[..1]), "not above the fan-out");
        assert!(!rule.matches(WorkKind::AdHoc, &fleet[1..]), "no agent matches");
        let any = RuleCondition::default();
        for kind in [WorkKind::Script("x"), WorkKind::AdHoc, WorkKind::LifeCycle] {
            assert!(any.matches(kind, &fleet[..1]), "{kind:?}");
        }
        for kind in [WorkKind::Question, WorkKind::Control, WorkKind::AgentChange] {
            assert!(!any.matches(kind, &fleet), "{kind:?}");
        }
        let broken = RuleCondition { target: Some("(".into()), ..any };
        assert!(broken.matches(WorkKind::AdHoc, &fleet), "in doubt it asks");
    }

    #[test]
    fn names_in_database_and_json_agree() {
        for state in ApprovalState::iter() {
            assert_eq!(<&str>::from(state), state.as_str());
            assert_eq!(serde_json::to_value(state).expect("plain"), state.as_str());
        }
    }
}
