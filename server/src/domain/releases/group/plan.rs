//! The next step of a group: counts its agents for `domain/waves`.

use std::collections::BTreeSet;

use super::cohort::{CohortState, canaries, is_replaceable, state_of};
use super::{CurrentWave, Member, MemberProgress, RolloutPolicy, UpdateState, WaveMember};
use crate::domain::time::Timestamp;
use crate::domain::waves::gate::{GATE_MS, GateStatus, HealthGate, MemberHealth};
use crate::domain::waves::{Successor, WavePhase, WaveSnapshot, WaveStep, plan_next};

/// How long an agent that was updated and reconnects with another version may take to return to the
/// desired one by itself, before the group updates it again.
pub const RETURN_MS: u64 = 60_000;
/// Ends the text of every halt.
const HALT_REMEDY: &str =
    "Check the agents, then resume the group to try them again, or set another version.";

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing is under way. Plan again at `until`, or when something changes.
    Idle { until: Option<Timestamp> },
    /// Updates are under way.
    Wait,
    /// Note that the wave has passed its health gate, then plan again.
    WaveHealthy,
    /// Request updates of these agents, as the next wave.
    StartWave(Vec<WaveMember>),
    /// Request no more updates. The text is for people.
    Halt(String),
}

/// Decides the next step of a group.
pub fn plan_group(
    policy: RolloutPolicy,
    wave: CurrentWave,
    members: &[Member],
    now: Timestamp,
) -> NextStep {
    let count = |state| in_state(members, state).count() as u64;
    let limit = policy.max_failures.failure_limit(members.len() as u64);
    let chosen = candidates(policy, members, now);
    let successor = match chosen.is_empty() {
        true => Successor::Empty { due_at: next_due(members, now) },
        false => Successor::Ready,
    };
    let held_back_until = held_back_until(wave, members, limit, now);
    let step = plan_next(&WaveSnapshot {
        wave: wave.number.unsigned_abs(),
        phase: match wave.is_healthy {
            true => WavePhase::Passed,
            // A wave ends by itself: nothing of it is in flight.
            false => WavePhase::Ended(gate_status(policy, wave, members, now)),
        },
        failures: count(UpdateState::Failed),
        failure_limit: Some(limit),
        counts_in_flight: false,
        unreachable: count(UpdateState::Unreachable),
        held: 0,
        in_flight: count(UpdateState::Updating),
        held_back_until,
        successor,
    });
    match step {
        WaveStep::Idle { .. } if held_back_until.is_none() && is_report_due(members) => {
            NextStep::Wait
        }
        WaveStep::Idle { until } => NextStep::Idle { until },
        WaveStep::PassWave => NextStep::WaveHealthy,
        WaveStep::NextWave => NextStep::StartWave(chosen),
        WaveStep::Halt(reason) => NextStep::Halt(reason.sentence(HALT_REMEDY)),
        WaveStep::Wait | WaveStep::WaitUntil(_) | WaveStep::Start(_) | WaveStep::EndWave => {
            NextStep::Wait
        }
    }
}

fn in_state(members: &[Member], state: UpdateState) -> impl Iterator<Item = &Member> {
    let is_in = move |progress: MemberProgress| progress.state == state;
    members.iter().filter(move |member| member.progress.is_some_and(is_in))
}

/// True if an unreachable agent is back online: it is about to report its result.
fn is_report_due(members: &[Member]) -> bool {
    in_state(members, UpdateState::Unreachable).any(|member| member.is_online)
}

/// When a member may be updated; `None` if it needs no update for now.
fn update_due_at(member: &Member) -> Option<Timestamp> {
    if member.is_up_to_date {
        return None;
    }
    let Some(progress) = member.progress else { return Some(Timestamp(0)) };
    match progress.state {
        UpdateState::Pending => Some(progress.due_at),
        // It was updated and reconnected with another version: it rolled back, or a person
        // replaced it.
        UpdateState::Done if progress.changed_at < member.connected_at => {
            Some(member.connected_at.plus_ms(RETURN_MS))
        }
        UpdateState::Done
        | UpdateState::Updating
        | UpdateState::Unreachable
        | UpdateState::Failed => None,
    }
}

/// When the first online member that is not due yet becomes due. Members that are held back do not count.
fn next_due(members: &[Member], now: Timestamp) -> Option<Timestamp> {
    let canaries = canaries(members);
    let may_start = |member: &&Member| {
        let canary = canaries.get(&member.cohort).copied();
        let is_first = canary.is_none_or(|canary| canary.id == member.id || is_replaceable(canary));
        is_first || state_of(canary) == CohortState::Proven
    };
    let online = members.iter().filter(|member| member.is_online);
    let due = online.clone().filter(may_start).filter_map(update_due_at);
    let probes = online
        .filter_map(|member| member.progress)
        .filter(|progress| progress.is_probed && progress.state == UpdateState::Pending);
    due.chain(probes.map(|progress| progress.due_at)).filter(|at| *at > now).min()
}

/// The members of the next wave: a canary of each cohort that needs one, and members of cohorts whose canary
/// has succeeded. Members without an attempt come first, so that unreachable and busy agents never delay the
/// others.
fn candidates(policy: RolloutPolicy, members: &[Member], now: Timestamp) -> Vec<WaveMember> {
    let is_due =
        |member: &&Member| member.is_online && update_due_at(member).is_some_and(|at| at <= now);
    let mut due: Vec<_> = members.iter().filter(is_due).collect();
    due.sort_by_key(|member| (member.progress.is_some(), update_due_at(member)));
    let canaries = canaries(members);
    let (mut first, mut proven) = (Vec::new(), Vec::new());
    // Cohorts that get a canary in this wave. One that returned with another version is asked alone.
    let mut taken: BTreeSet<_> =
        due.iter().filter(|member| member.is_canary()).map(|member| member.cohort).collect();
    taken.retain(|cohort| !canaries.get(cohort).is_some_and(|canary| is_replaceable(canary)));
    for member in due {
        let (id, cohort) = (member.id, member.cohort);
        let canary = canaries.get(&cohort).copied();
        if canary.is_some_and(|canary| canary.id == id && !is_replaceable(canary)) {
            first.push(WaveMember { id, cohort, is_canary: true });
        } else if canary.is_none_or(is_replaceable) {
            if taken.insert(cohort) {
                first.push(WaveMember { id, cohort, is_canary: true });
            }
        } else if state_of(canary) == CohortState::Proven && !taken.contains(&cohort) {
            proven.push(WaveMember { id, cohort, is_canary: false });
        }
    }
    let size = policy.wave_size.wave_size(members.len() as u64);
    proven.truncate(usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(first.len()));
    first.extend(proven);
    first
}

/// When the next wave may start, if more members of the current one than the limit wait for a
/// retry: a passing cause, such as a network outage, probably affects the next wave too.
fn held_back_until(
    wave: CurrentWave,
    members: &[Member],
    limit: u64,
    now: Timestamp,
) -> Option<Timestamp> {
    let waits = |progress: &MemberProgress| {
        let is_of_wave = progress.wave == wave.number;
        is_of_wave && !progress.is_busy && now < progress.due_at
    };
    let pending = in_state(members, UpdateState::Pending).filter_map(|member| member.progress);
    let retries: Vec<_> = pending.filter(waits).map(|progress| progress.due_at).collect();
    if retries.len() as u64 > limit { retries.into_iter().min() } else { None }
}

/// The health of the agents that were updated in the current wave. Each has its own deadline, which
/// counts from its update.
fn gate_status(
    policy: RolloutPolicy,
    wave: CurrentWave,
    members: &[Member],
    now: Timestamp,
) -> GateStatus {
    let for_ms = policy.healthy_for_ms;
    let gate = HealthGate { for_ms, within_ms: GATE_MS.max(for_ms.saturating_mul(2)) };
    let updated = in_state(members, UpdateState::Done).filter_map(|member| {
        let progress = member.progress.filter(|progress| progress.wave == wave.number)?;
        // After the clock was set back, a session may start in the future. No time has passed for
        // it.
        let connected_at = member.connected_at.min(now);
        Some(MemberHealth {
            healthy_at: member.is_online.then(|| connected_at.plus_ms(for_ms)),
            deadline_at: progress.changed_at.plus_ms(gate.within_ms).plus_ms(1),
        })
    });
    gate.evaluate(&updated.collect::<Vec<_>>(), now, now)
}
