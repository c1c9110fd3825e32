//! Cohorts: the agents of a group with the same system, processor and service manager. The first agent of
//! each, its canary, runs the new version before the others do. Pure.

use std::collections::BTreeMap;
use std::fmt;

use muster_protocol::frame::SERVICE_MANAGERS;
use muster_protocol::release::{PROCESSORS, SYSTEMS};
use serde::Serialize;

use super::{Member, UpdateState};
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::AgentId;

/// Stands for everything that a host does not report in known words.
const UNKNOWN: &str = "unknown";

/// The cohort of an agent. Hosts report what it is made of, so only known words count: a host that invents
/// words makes no cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cohort {
    pub os: &'static str,
    pub arch: &'static str,
    pub service_manager: &'static str,
}

impl Cohort {
    /// The cohort of an agent by what it reports now.
    pub fn of(facts: &Facts) -> Self {
        let os = facts.os_family().unwrap_or(UNKNOWN);
        Self::known(os, &facts.arch, &facts.service_manager)
    }

    /// Reads the stored form. Words that this server does not know are unknown.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split('/');
        let mut next = || words.next().unwrap_or_default();
        Self::known(next(), next(), next())
    }

    fn known(os: &str, arch: &str, service_manager: &str) -> Self {
        let word = |known: &[&'static str], word: &str| {
            known.iter().find(|known| **known == word).copied().unwrap_or(UNKNOWN)
        };
        Self {
            os: word(&SYSTEMS, os),
            arch: word(&PROCESSORS, arch),
            service_manager: word(&SERVICE_MANAGERS, service_manager),
        }
    }
}

impl fmt::Display for Cohort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.os, self.arch, self.service_manager)
    }
}

/// Whether a cohort may be updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CohortState {
    /// It has no canary, or its canary waits or is offline.
    Unproven,
    /// Its canary is being updated, or runs the no-op execution.
    Proving,
    /// Its canary runs the new version, and the others follow.
    Proven,
    /// Its canary failed.
    Failed,
}

/// The canary of each cohort that has one.
pub fn canaries(members: &[Member]) -> BTreeMap<Cohort, &Member> {
    let canaries = members.iter().filter(|member| member.is_canary());
    canaries.map(|member| (member.cohort, member)).collect()
}

/// The state of a cohort with this canary.
pub fn state_of(canary: Option<&Member>) -> CohortState {
    match canary.and_then(|canary| canary.progress).map(|progress| progress.state) {
        None | Some(UpdateState::Pending | UpdateState::Unreachable) => CohortState::Unproven,
        Some(UpdateState::Updating) => CohortState::Proving,
        Some(UpdateState::Done) => CohortState::Proven,
        Some(UpdateState::Failed) => CohortState::Failed,
    }
}

/// True if another agent may become the canary: this one waits, and is offline or had no free slot for the
/// update.
pub fn is_replaceable(canary: &Member) -> bool {
    canary.progress.is_some_and(|progress| {
        let is_busy = progress.is_busy && !progress.is_probed;
        progress.state == UpdateState::Pending && (is_busy || !canary.is_online)
    })
}

/// A cohort of a group, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CohortSnapshot {
    pub cohort: Cohort,
    pub state: CohortState,
    /// Agents that were updated or need it.
    pub agents: usize,
    pub canary: Option<AgentId>,
    /// Why the other agents are held back.
    pub held: Option<String>,
}

/// The cohorts of the agents that were updated or need it. `problem` is the message of an agent's attempt.
pub fn cohorts(
    members: &[Member],
    problem: impl Fn(AgentId) -> Option<String>,
) -> Vec<CohortSnapshot> {
    let canaries = canaries(members);
    let mut counts: BTreeMap<Cohort, (usize, bool)> = BTreeMap::new();
    let concerned = |member: &&Member| member.progress.is_some() || !member.is_up_to_date;
    for member in members.iter().filter(concerned) {
        let (count, is_anyone_online) = counts.entry(member.cohort).or_default();
        *count += 1;
        *is_anyone_online |= member.is_online;
    }
    let snapshot = |(cohort, (agents, is_anyone_online)): (Cohort, (usize, bool))| {
        let canary = canaries.get(&cohort).copied();
        let held = match canary {
            Some(canary) => held(canary, problem(canary.id)),
            None if is_anyone_online => None,
            None => Some("No agent of this cohort is online. The first one that connects becomes its canary.".into()),
        };
        let (state, canary) = (state_of(canary), canary.map(|canary| canary.id));
        CohortSnapshot { cohort, state, agents, canary, held }
    };
    counts.into_iter().map(snapshot).collect()
}

/// Why the cohort of a canary is held back.
fn held(canary: &Member, problem: Option<String>) -> Option<String> {
    let progress = canary.progress?;
    let because = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
    Some(match progress.state {
        UpdateState::Done => return None,
        UpdateState::Updating if progress.is_probed => {
            "The canary runs the new version. The other agents wait for its no-op execution.".into()
        }
        UpdateState::Updating => "The other agents wait for the canary to be updated.".into(),
        UpdateState::Pending => format!("The canary is tried again later{because}."),
        UpdateState::Unreachable => {
            "The canary went offline after its update was requested. The other agents wait for its result."
                .into()
        }
        UpdateState::Failed => format!(
            "The canary failed{because}. The other agents are not updated. Pause and resume the group to \
             try again, or set another version."
        ),
    })
}
