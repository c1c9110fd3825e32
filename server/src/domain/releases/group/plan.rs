//! What is next for a group.

use super::{Member, Progress, RolloutPolicy, UpdateState, Wave};
use crate::domain::commands::rollout::amount::Rounding;
use crate::domain::ids::AgentId;
use crate::domain::pluralize::pluralize;
use crate::domain::time::Timestamp;

/// How long the agents of a wave may take to be connected for as long as is asked.
pub const GATE_MS: u64 = 10 * 60_000;
/// How long an agent that was brought there and comes back with another version may take to return by
/// itself, before its group asks it again.
pub const RETURN_MS: u64 = 60_000;

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// There is nothing to do before something changes, or that instant has come.
    Rest { until: Option<Timestamp> },
    /// Something is under way.
    Wait,
    /// The last wave is over, and nobody waits for its health any more: note that, and ask again.
    Well,
    /// These are asked.
    Wave(Vec<AgentId>),
    /// No more are asked, for this reason.
    Halt(String),
}

/// Decides what is next.
pub fn next(pace: RolloutPolicy, wave: Wave, members: &[Member], now: Timestamp) -> Next {
    let all = members.len() as u64;
    let count = |state| in_state(members, state).count() as u64;
    let (failures, budget) =
        (count(UpdateState::Failed), pace.max_failures.of(all, Rounding::Down));
    if failures > budget {
        return Next::Halt(format!(
            "{} did not take the version and {budget} may; look at them, then resume to try them again, or ask for another version",
            pluralize(failures, "agent")
        ));
    }
    if count(UpdateState::Updating) > 0 {
        return Next::Wait;
    }
    // One host may be lost by chance. More than one are a sign, and nobody can ask them.
    let away = count(UpdateState::Unreachable);
    if failures + away > budget + 1 {
        return Next::Halt(format!(
            "asked for the version, {} went offline and stayed so, and {failures} did not take it; look at them, then resume to go on, or ask for another version",
            pluralize(away, "agent")
        ));
    }
    let chosen = candidates(pace, members, now);
    let gate = gate(pace, wave, members, now);
    if !wave.is_well && gate.is_over(chosen.is_empty()) {
        return Next::Well;
    }
    let is_troubled = |progress: &&Progress| {
        let is_of_wave = progress.wave == wave.number;
        is_of_wave && !progress.is_busy && now < progress.due_at
    };
    let pending = in_state(members, UpdateState::Pending).filter_map(|m| m.progress.as_ref());
    let troubled: Vec<_> = pending.filter(is_troubled).map(|progress| progress.due_at).collect();
    // What is nobody's fault, such as a network that is away, is likely to meet the next ones too.
    if troubled.len() as u64 > budget {
        return Next::Rest { until: troubled.into_iter().min() };
    }
    if chosen.is_empty() {
        // Who is back is about to tell.
        let is_back = in_state(members, UpdateState::Unreachable).any(|member| member.is_online);
        if gate.unwell > 0 || is_back {
            return Next::Wait;
        }
        let due = members.iter().filter(|member| member.is_online).filter_map(asked_at);
        return Next::Rest { until: due.filter(|at| *at > now).min() };
    }
    match gate.late {
        0 if gate.unwell > 0 => Next::Wait,
        0 => Next::Wave(chosen),
        late => Next::Halt(format!(
            "after wave {}, {} that took the version did not stay connected; look there, then resume to go on, or ask for another version",
            wave.number,
            pluralize(late as u64, "agent")
        )),
    }
}

fn in_state(members: &[Member], state: UpdateState) -> impl Iterator<Item = &Member> {
    let is_in = move |progress: Progress| progress.state == state;
    members.iter().filter(move |member| member.progress.is_some_and(is_in))
}

/// From when on a member may be asked; `None` if it is not to be asked as things are.
fn asked_at(member: &Member) -> Option<Timestamp> {
    if member.is_there {
        return None;
    }
    let Some(progress) = member.progress else { return Some(Timestamp(0)) };
    match progress.state {
        UpdateState::Pending => Some(progress.due_at),
        // It was brought there, and has come back as another: set back, or updated by somebody.
        UpdateState::Done if progress.changed_at < member.connected_at => {
            Some(member.connected_at.plus_ms(RETURN_MS))
        }
        UpdateState::Done
        | UpdateState::Updating
        | UpdateState::Unreachable
        | UpdateState::Failed => None,
    }
}

/// Who is in the next wave. Those that were never asked come first: who can't be reached, or has no
/// room, keeps nobody else from the version.
fn candidates(pace: RolloutPolicy, members: &[Member], now: Timestamp) -> Vec<AgentId> {
    let is_due =
        |member: &&Member| member.is_online && asked_at(member).is_some_and(|at| at <= now);
    let mut due: Vec<_> = members.iter().filter(is_due).collect();
    due.sort_by_key(|member| (member.progress.is_some(), asked_at(member)));
    let size = pace.wave_size.of(members.len() as u64, Rounding::Up).max(1);
    due.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    due.into_iter().map(|member| member.id).collect()
}

/// How well the last wave is.
struct Gate {
    /// Members of it that are not connected for as long as is asked.
    unwell: usize,
    /// Those of them that have had their time.
    late: usize,
}

impl Gate {
    /// True if nobody waits for the wave any more. Where nobody is to follow, there is nobody to keep
    /// from what has befallen the late ones.
    fn is_over(&self, is_last: bool) -> bool {
        self.unwell == 0 || (is_last && self.late == self.unwell)
    }
}

fn gate(pace: RolloutPolicy, wave: Wave, members: &[Member], now: Timestamp) -> Gate {
    let mut gate = Gate { unwell: 0, late: 0 };
    if wave.is_well {
        return gate;
    }
    for member in in_state(members, UpdateState::Done) {
        let Some(progress) = member.progress.filter(|p| p.wave == wave.number) else { continue };
        if member.is_online && now.ms_since(member.connected_at) >= pace.healthy_for_ms {
            continue;
        }
        gate.unwell += 1;
        let patience_ms = GATE_MS.max(pace.healthy_for_ms.saturating_mul(2));
        gate.late += usize::from(now.ms_since(progress.changed_at) > patience_ms);
    }
    gate
}
