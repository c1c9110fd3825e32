//! Groups of agents that are to be of one version: what is next. Pure: what is known of agents is
//! passed in, and every decision is made anew from it.

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

use super::counted::counted;
use super::ids::AgentId;
use super::rollout::amount::{Amount, Rounding};
use super::time::Timestamp;

/// How often an agent is asked again that could not be told to be at fault.
pub const MAX_TRIES: i32 = 5;
/// How long the agents of a wave may take to be connected for as long as is asked.
pub const GATE_MS: u64 = 10 * 60_000;
/// How long an agent that was asked may be offline before nobody waits for it: a download, or a trial,
/// at its longest, and a margin.
pub const AWAY_MS: u64 = 15 * 60_000;
/// The first delay before an agent is asked again; it doubles.
const FIRST_RETRY_MS: u64 = 60_000;

/// Whether a group's wish is carried out.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    DeriveActiveEnum,
    utoipa::ToSchema,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// It is: agents that come later are brought there too.
    Active,
    /// Somebody has paused it.
    Paused,
    /// Too much went wrong.
    Halted,
}

/// Where one agent is with its group's wish.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    DeriveActiveEnum,
    utoipa::ToSchema,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// It is asked again later.
    Pending,
    /// It was asked, and has no verdict yet.
    Updating,
    /// It was asked, and has been offline for [`AWAY_MS`] since: nobody waits for it. What came of it
    /// counts once it is told.
    Away,
    Done,
    Failed,
}

/// An agent of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: AgentId,
    /// Connected now.
    pub is_online: bool,
    /// Connected since then.
    pub connected_at: Timestamp,
    /// It is of the wanted version.
    pub is_there: bool,
    /// What was done about it.
    pub progress: Option<Progress>,
}

/// What was done about an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub wave: i32,
    pub state: UpdateState,
    /// Of a pending one.
    pub due_at: Timestamp,
    pub changed_at: Timestamp,
}

/// How a group goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub wave_size: Amount,
    /// Failures that are borne.
    pub max_failures: Amount,
    /// Before the next wave, each agent of the last has to be connected for this long.
    pub healthy_for_ms: u64,
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// There is nothing to do before something changes.
    Rest,
    /// Something is under way.
    Wait,
    /// These are asked.
    Wave(Vec<AgentId>),
    /// No more are asked, for this reason.
    Halt(String),
}

/// Decides what is next, `wave` being the last that was begun.
pub fn next(pace: Pace, wave: i32, members: &[Member], now: Timestamp) -> Next {
    let all = members.len() as u64;
    let in_state = |state: UpdateState| {
        members.iter().filter(move |member| member.progress.is_some_and(|p| p.state == state))
    };
    let (failures, budget) =
        (in_state(UpdateState::Failed).count() as u64, pace.max_failures.of(all, Rounding::Down));
    if failures > budget {
        return Next::Halt(format!(
            "{} did not take the version and {budget} may; look at them, then resume to try them again, or ask for another version",
            counted(failures, "agent")
        ));
    }
    if in_state(UpdateState::Updating).next().is_some() {
        return Next::Wait;
    }
    // One host may be lost by chance. More than one are a sign, and nobody can ask them.
    let away = in_state(UpdateState::Away).count() as u64;
    if failures + away > budget + 1 {
        return Next::Halt(format!(
            "{away} agents were asked for the version and have been offline ever since, and {failures} did not take it; look at them, then resume to go on, or ask for another version"
        ));
    }
    let is_troubled = |member: &&Member| {
        member.progress.is_some_and(|progress| progress.wave == wave && now < progress.due_at)
    };
    // What is nobody's fault, such as a network that is away, is likely to meet the next ones too.
    if in_state(UpdateState::Pending).filter(is_troubled).count() as u64 > budget {
        return Next::Wait;
    }
    let is_candidate = |member: &&Member| {
        member.is_online
            && !member.is_there
            && member.progress.is_none_or(|progress| {
                progress.state == UpdateState::Pending && progress.due_at <= now
            })
    };
    let wave_size = pace.wave_size.of(all, Rounding::Up).max(1);
    let wave_size = usize::try_from(wave_size).unwrap_or(usize::MAX);
    let chosen: Vec<_> =
        members.iter().filter(is_candidate).take(wave_size).map(|member| member.id).collect();
    if chosen.is_empty() {
        let is_pending = in_state(UpdateState::Pending).next().is_some();
        // Who is back is about to tell.
        let is_back = in_state(UpdateState::Away).any(|member| member.is_online);
        return if is_pending || is_back { Next::Wait } else { Next::Rest };
    }
    let unwell = |member: &&Member| {
        let is_well = member.is_online && now.ms_since(member.connected_at) >= pace.healthy_for_ms;
        !is_well && member.progress.is_some_and(|progress| progress.wave == wave)
    };
    let unwell: Vec<_> = in_state(UpdateState::Done).filter(unwell).collect();
    let is_late = |member: &&Member| {
        member.progress.is_some_and(|progress| {
            now.ms_since(progress.changed_at) > GATE_MS.max(2 * pace.healthy_for_ms)
        })
    };
    match unwell.iter().copied().filter(|member| is_late(member)).count() {
        0 if unwell.is_empty() => Next::Wave(chosen),
        0 => Next::Wait,
        late => Next::Halt(format!(
            "of wave {wave}, {} took the version and did not connect; look at them, then resume to go on, or ask for another version",
            counted(late as u64, "agent")
        )),
    }
}

/// When an agent is asked again that was asked so often; `None` if it is not.
pub fn retry_at(tries: i32, now: Timestamp) -> Option<Timestamp> {
    let doublings = u32::try_from(tries.max(1) - 1).unwrap_or(0).min(16);
    (tries < MAX_TRIES).then(|| now.plus_ms(FIRST_RETRY_MS << doublings))
}

#[cfg(test)]
mod tests;
