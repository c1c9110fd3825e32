//! The next step of a rollout: counts its agents for `domain/waves`.

use super::{ShareState, WavePolicy};
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::domain::waves::gate::{GATE_MS, GateStatus, HealthGate, MemberHealth};
use crate::domain::waves::{Successor, WavePhase, WaveSnapshot, WaveStep, plan_next};

/// Ends the text of every halt.
const HALT_REMEDY: &str = "Resume the rollout to go on although these agents failed, abort it so that all agents get the former version, or finish it so that all get the new one.";

/// An agent of the assignment's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutMember {
    pub id: AgentId,
    pub is_online: bool,
    /// When its current or last session started.
    pub connected_at: Timestamp,
    /// The server may send it the assignment.
    pub is_permitted: bool,
    /// `None`: no wave has reached it.
    pub share: Option<MemberShare>,
}

/// What a wave has brought an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberShare {
    pub wave: i32,
    pub state: ShareState,
    pub changed_at: Timestamp,
}

/// The last wave that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutWave {
    /// Counted from 1; 0 before the first.
    pub number: i32,
    /// It passed its health gate, or the gate was waived.
    pub is_healthy: bool,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentStep {
    /// Nothing can be done until something changes.
    Idle,
    /// A wave is under way.
    Wait,
    /// Note that the wave has passed its health gate, then plan again.
    WaveHealthy,
    /// Bring these agents the version, as the next wave.
    StartWave(Vec<AgentId>),
    /// Start no more waves. The text is for people.
    Halt(String),
    /// Every agent has the version.
    Finish,
}

/// Decides the next step of a rollout.
pub fn plan_rollout(
    policy: WavePolicy,
    wave: RolloutWave,
    members: &[RolloutMember],
    now: Timestamp,
) -> AssignmentStep {
    let count = |state| in_state(members, state).count() as u64;
    let is_reached = !members.is_empty() && members.iter().all(|member| member.share.is_some());
    let chosen = candidates(policy, members);
    let step = plan_next(&WaveSnapshot {
        wave: wave.number.unsigned_abs(),
        phase: match wave.is_healthy {
            true => WavePhase::Passed,
            // A wave ends by itself: nothing of it is in flight.
            false => WavePhase::Ended(gate_status(policy, wave, members, now)),
        },
        failures: count(ShareState::Failed),
        failure_limit: Some(policy.max_failures.failure_limit(members.len() as u64)),
        counts_in_flight: false,
        unreachable: count(ShareState::Unreachable),
        held: 0,
        in_flight: count(ShareState::Updating),
        held_back_until: None,
        // Agents may join the target at any time, so no wave is known to be the last.
        successor: match chosen.is_empty() {
            true => Successor::Empty { due_at: None },
            false => Successor::Ready,
        },
    });
    match step {
        WaveStep::Idle { .. } if is_reached && count(ShareState::Unreachable) == 0 => {
            AssignmentStep::Finish
        }
        WaveStep::Idle { .. } => AssignmentStep::Idle,
        WaveStep::PassWave => AssignmentStep::WaveHealthy,
        WaveStep::NextWave => AssignmentStep::StartWave(chosen),
        WaveStep::Halt(reason) => AssignmentStep::Halt(reason.sentence(HALT_REMEDY)),
        WaveStep::Wait | WaveStep::WaitUntil(_) | WaveStep::Start(_) | WaveStep::EndWave => {
            AssignmentStep::Wait
        }
    }
}

fn in_state(members: &[RolloutMember], state: ShareState) -> impl Iterator<Item = &RolloutMember> {
    let is_in = move |share: MemberShare| share.state == state;
    members.iter().filter(move |member| member.share.is_some_and(is_in))
}

/// The members of the next wave, in their order.
fn candidates(policy: WavePolicy, members: &[RolloutMember]) -> Vec<AgentId> {
    let may_follow =
        |member: &&RolloutMember| member.is_online && member.is_permitted && member.share.is_none();
    let size = policy.wave_size.wave_size(members.len() as u64);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    members.iter().filter(may_follow).take(size).map(|member| member.id).collect()
}

/// The health of the agents that got the version in the current wave. Each has its own deadline, which counts from
/// its report.
fn gate_status(
    policy: WavePolicy,
    wave: RolloutWave,
    members: &[RolloutMember],
    now: Timestamp,
) -> GateStatus {
    let for_ms = policy.healthy_for_ms;
    let gate = HealthGate { for_ms, within_ms: GATE_MS.max(for_ms.saturating_mul(2)) };
    let done = in_state(members, ShareState::Done).filter_map(|member| {
        let share = member.share.filter(|share| share.wave == wave.number)?;
        // The time counts from the report or the session, whichever is later. After the clock was set back, either may
        // be in the future; no time has passed for it.
        let since = member.connected_at.max(share.changed_at).min(now);
        Some(MemberHealth {
            healthy_at: member.is_online.then(|| since.plus_ms(for_ms)),
            deadline_at: share.changed_at.plus_ms(gate.within_ms).plus_ms(1),
        })
    });
    gate.evaluate(&done.collect::<Vec<_>>(), now, now)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::waves::amount::Amount;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn member(number: u128, share: Option<(i32, ShareState)>) -> RolloutMember {
        RolloutMember {
            id: AgentId(Uuid::from_u128(number)),
            is_online: true,
            connected_at: Timestamp(0),
            is_permitted: true,
            share: share.map(|(wave, state)| MemberShare { wave, state, changed_at: Timestamp(0) }),
        }
    }

    fn policy(wave_size: u64, max_failures: u64) -> WavePolicy {
        WavePolicy {
            wave_size: Amount::Count(wave_size),
            max_failures: Amount::Count(max_failures),
            healthy_for_ms: 0,
        }
    }

    fn plan(max_failures: u64, wave: i32, members: &[RolloutMember]) -> AssignmentStep {
        let wave = RolloutWave { number: wave, is_healthy: false };
        plan_rollout(policy(1, max_failures), wave, members, NOW)
    }

    #[test]
    fn a_failed_wave_halts_before_another_agent_gets_the_version() {
        let failed = [member(1, Some((1, ShareState::Failed))), member(2, None), member(3, None)];
        let AssignmentStep::Halt(reason) = plan(0, 1, &failed) else { panic!("not halted") };
        assert!(reason.starts_with("Halted: 1 failed, the limit is 0. Resume"), "{reason}");
        assert_eq!(plan(1, 1, &failed), AssignmentStep::WaveHealthy);
        // What a person has accepted counts no more.
        let accepted = [member(1, Some((1, ShareState::Accepted))), member(2, None)];
        assert_eq!(plan(0, 1, &accepted), AssignmentStep::WaveHealthy);
        // The last agent counts as any other.
        let last =
            [member(1, Some((1, ShareState::Done))), member(2, Some((2, ShareState::Failed)))];
        assert!(matches!(plan(0, 2, &last), AssignmentStep::Halt(_)));
    }

    #[test]
    fn agents_that_are_offline_or_held_wait_and_keep_the_rollout_open() {
        let done = member(1, Some((1, ShareState::Done)));
        let offline = RolloutMember { is_online: false, ..member(2, None) };
        let held = RolloutMember { is_permitted: false, ..member(3, None) };
        let passed = RolloutWave { number: 1, is_healthy: true };
        let members = [done.clone(), offline, held];
        assert_eq!(plan_rollout(policy(5, 0), passed, &members, NOW), AssignmentStep::Idle);
        assert_eq!(
            plan_rollout(policy(5, 0), passed, std::slice::from_ref(&done), NOW),
            AssignmentStep::Finish
        );
        let joined = member(4, None);
        let step = plan_rollout(policy(5, 0), passed, &[done.clone(), joined.clone()], NOW);
        assert_eq!(step, AssignmentStep::StartWave(vec![joined.id]));
        let unreachable = member(5, Some((1, ShareState::Unreachable)));
        assert_eq!(
            plan_rollout(policy(5, 0), passed, &[done, unreachable], NOW),
            AssignmentStep::Idle
        );
        assert_eq!(plan_rollout(policy(5, 0), passed, &[], NOW), AssignmentStep::Idle);
    }

    #[test]
    fn the_next_wave_waits_until_the_agents_have_stayed_online_since_their_reports() {
        let mut members = [member(1, Some((1, ShareState::Done))), member(2, None)];
        let policy = WavePolicy { healthy_for_ms: 100, ..policy(1, 0) };
        let wave = RolloutWave { number: 1, is_healthy: false };
        let mut step = |connected: u64, changed: u64| {
            members[0].connected_at = NOW.minus_ms(connected);
            members[0].share = members[0]
                .share
                .map(|share| MemberShare { changed_at: NOW.minus_ms(changed), ..share });
            plan_rollout(policy, wave, &members, NOW)
        };
        assert_eq!(step(500, 99), AssignmentStep::Wait);
        assert_eq!(step(99, 500), AssignmentStep::Wait);
        assert_eq!(step(100, 100), AssignmentStep::WaveHealthy);
    }

    proptest! {
        /// Plays a rollout in which some agents fail: no more agents get the version than waves allow.
        #[test]
        fn a_rollout_ends_or_halts_and_failures_never_exceed_the_limit_by_more_than_a_wave(
            fails in prop::collection::vec(any::<bool>(), 1..40),
            size in 1u64..10, limit in 0u64..5,
        ) {
            let mut members: Vec<RolloutMember> =
                (0..fails.len()).map(|number| member(number as u128, None)).collect();
            let (mut wave, policy) = (RolloutWave { number: 0, is_healthy: true }, policy(size, limit));
            for _ in 0..200 {
                match plan_rollout(policy, wave, &members, NOW) {
                    AssignmentStep::StartWave(chosen) => {
                        prop_assert!(wave.is_healthy && chosen.len() as u64 <= size);
                        wave = RolloutWave { number: wave.number + 1, is_healthy: false };
                        let chosen: BTreeSet<AgentId> = chosen.into_iter().collect();
                        for (member, fails) in members.iter_mut().zip(&fails) {
                            if chosen.contains(&member.id) {
                                prop_assert!(member.share.is_none());
                                let state = match fails {
                                    true => ShareState::Failed,
                                    false => ShareState::Done,
                                };
                                let changed_at = Timestamp(0);
                                member.share =
                                    Some(MemberShare { wave: wave.number, state, changed_at });
                            }
                        }
                    }
                    AssignmentStep::WaveHealthy => wave.is_healthy = true,
                    AssignmentStep::Halt(_) => {
                        let failed = in_state(&members, ShareState::Failed).count() as u64;
                        prop_assert!(limit < failed && failed <= limit + size);
                        return Ok(());
                    }
                    AssignmentStep::Finish => {
                        prop_assert!(members.iter().all(|member| member.share.is_some()));
                        let failed = fails.iter().filter(|fails| **fails).count() as u64;
                        prop_assert!(failed <= limit);
                        return Ok(());
                    }
                    AssignmentStep::Idle | AssignmentStep::Wait => prop_assert!(false, "it stands still"),
                }
            }
            prop_assert!(false, "it does not end");
        }
    }
}
