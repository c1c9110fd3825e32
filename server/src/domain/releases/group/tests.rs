//! Examples and properties of a group's next step.

use proptest::prelude::*;

use super::plan::{GATE_MS, NextStep, RETURN_MS, plan_group};
use super::{CurrentWave, Member, MemberProgress, RolloutPolicy, UpdateState};
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::domain::waves::amount::Amount;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const IDLE: NextStep = NextStep::Idle { until: None };

fn policy(wave_size: u64, max_failures: u64) -> RolloutPolicy {
    RolloutPolicy {
        wave_size: Amount::Count(wave_size),
        max_failures: Amount::Count(max_failures),
        healthy_for_ms: 0,
    }
}

fn wave(number: i32) -> CurrentWave {
    CurrentWave { number, is_healthy: false }
}

fn healthy(number: i32) -> CurrentWave {
    CurrentWave { number, is_healthy: true }
}

fn member(state: Option<UpdateState>) -> Member {
    Member {
        id: AgentId::new(),
        is_online: true,
        connected_at: NOW,
        is_up_to_date: state == Some(UpdateState::Done),
        progress: state.map(|state| MemberProgress {
            wave: 1,
            state,
            is_busy: false,
            due_at: NOW,
            changed_at: NOW,
        }),
    }
}

fn pending(wave: i32, is_busy: bool, due_at: Timestamp) -> Member {
    let state = UpdateState::Pending;
    let progress = MemberProgress { wave, state, is_busy, due_at, changed_at: NOW };
    Member { progress: Some(progress), ..member(None) }
}

#[test]
fn a_wave_waits_until_the_previous_wave_is_healthy() {
    let mut members = vec![member(Some(UpdateState::Updating)), member(None)];
    assert_eq!(plan_group(policy(1, 0), wave(1), &members, NOW), NextStep::Wait);
    members[0] = member(Some(UpdateState::Done));
    assert_eq!(plan_group(policy(1, 0), wave(1), &members, NOW), NextStep::WaveHealthy);
    let expected = NextStep::StartWave(vec![members[1].id]);
    assert_eq!(plan_group(policy(1, 0), healthy(1), &members, NOW), expected);
    let patient = RolloutPolicy { healthy_for_ms: 1_000, ..policy(1, 0) };
    assert_eq!(plan_group(patient, wave(1), &members, NOW), NextStep::Wait);
    assert_eq!(plan_group(patient, wave(1), &members, NOW.plus_ms(1_000)), NextStep::WaveHealthy);
    members[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), wave(1), &members, NOW), NextStep::Wait);
    let later = NOW.plus_ms(GATE_MS + 1);
    assert!(matches!(plan_group(policy(1, 0), wave(1), &members, later), NextStep::Halt(_)));
}

#[test]
fn an_agent_that_goes_offline_after_its_wave_was_healthy_does_not_halt_the_group() {
    let mut members = vec![member(Some(UpdateState::Done)), member(None)];
    members[0].is_online = false;
    let later = NOW.plus_ms(90 * 24 * 3_600_000);
    let expected = NextStep::StartWave(vec![members[1].id]);
    assert_eq!(plan_group(policy(1, 0), healthy(1), &members, later), expected);
}

#[test]
fn a_last_wave_whose_agents_stay_offline_ends_after_its_deadline() {
    let mut members = vec![member(Some(UpdateState::Done))];
    members[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), wave(1), &members, NOW), NextStep::Wait);
    let mut late = member(Some(UpdateState::Done));
    late.is_online = false;
    if let Some(progress) = &mut late.progress {
        progress.changed_at = NOW.plus_ms(1_000);
    }
    let both = [members[0].clone(), late];
    assert_eq!(plan_group(policy(1, 0), wave(1), &both, NOW.plus_ms(GATE_MS + 1)), NextStep::Wait);
    assert_eq!(
        plan_group(policy(1, 0), wave(1), &members, NOW.plus_ms(GATE_MS + 1)),
        NextStep::WaveHealthy
    );
    assert_eq!(plan_group(policy(1, 0), healthy(1), &members, NOW.plus_ms(GATE_MS + 1)), IDLE);
}

#[test]
fn an_offline_agent_is_updated_when_it_connects() {
    let mut members = vec![member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(
        plan_group(policy(5, 0), healthy(0), &members, NOW),
        NextStep::StartWave(vec![members[1].id])
    );
    members[1] = member(Some(UpdateState::Done));
    assert_eq!(plan_group(policy(5, 0), healthy(1), &members, NOW), IDLE);
    members[0].is_online = true;
    assert_eq!(
        plan_group(policy(5, 0), healthy(1), &members, NOW),
        NextStep::StartWave(vec![members[0].id])
    );
    // A retry of an agent that is offline is no reason to plan again soon.
    members[0] = Member { is_online: false, ..pending(1, false, NOW) };
    assert_eq!(plan_group(policy(5, 0), healthy(1), &members, NOW), IDLE);
}

#[test]
fn one_unreachable_agent_delays_no_other_and_two_halt_the_group() {
    let mut members = vec![member(Some(UpdateState::Unreachable)), member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &members, NOW),
        NextStep::StartWave(vec![members[1].id])
    );
    members[1] = member(Some(UpdateState::Unreachable));
    assert!(matches!(plan_group(policy(1, 0), healthy(2), &members, NOW), NextStep::Halt(_)));
    assert_eq!(
        plan_group(policy(1, 1), healthy(2), &members, NOW),
        NextStep::StartWave(vec![members[2].id])
    );
    members[1] = member(Some(UpdateState::Failed));
    assert!(matches!(plan_group(policy(1, 0), healthy(2), &members, NOW), NextStep::Halt(_)));
    let mut rest = [member(Some(UpdateState::Unreachable)), member(Some(UpdateState::Done))];
    assert_eq!(
        plan_group(policy(1, 0), healthy(2), &rest, NOW),
        NextStep::Wait,
        "it is back online and about to report"
    );
    rest[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), healthy(2), &rest, NOW), IDLE);
}

#[test]
fn agents_waiting_for_a_retry_delay_the_next_wave_above_the_limit() {
    let later = NOW.plus_ms(1);
    let members = vec![pending(1, false, later), member(None)];
    let idle = NextStep::Idle { until: Some(later) };
    assert_eq!(plan_group(policy(1, 0), healthy(1), &members, NOW), idle);
    assert_eq!(
        plan_group(policy(1, 1), healthy(1), &members, NOW),
        NextStep::StartWave(vec![members[1].id])
    );
    let both = NextStep::StartWave(vec![members[1].id, members[0].id]);
    assert_eq!(plan_group(policy(2, 0), healthy(1), &members, later), both);
}

#[test]
fn a_busy_agent_delays_no_other_and_is_updated_last() {
    let later = NOW.plus_ms(1);
    let mut members = vec![pending(1, true, later), member(None)];
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &members, NOW),
        NextStep::StartWave(vec![members[1].id])
    );
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &members, later),
        NextStep::StartWave(vec![members[1].id])
    );
    members[1] = member(Some(UpdateState::Done));
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &members, NOW),
        NextStep::Idle { until: Some(later) }
    );
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &members, later),
        NextStep::StartWave(vec![members[0].id])
    );
}

#[test]
fn an_agent_that_reconnects_with_another_version_is_updated_again_after_a_delay() {
    let came_at = NOW.plus_ms(5_000);
    let mut members = vec![member(Some(UpdateState::Done))];
    members[0].is_up_to_date = false;
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &members, NOW),
        IDLE,
        "it is still in the same session"
    );
    members[0].connected_at = came_at;
    let due_at = came_at.plus_ms(RETURN_MS);
    let idle = NextStep::Idle { until: Some(due_at) };
    assert_eq!(plan_group(policy(1, 0), healthy(1), &members, came_at), idle);
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &members, due_at),
        NextStep::StartWave(vec![members[0].id])
    );
    members[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), healthy(1), &members, due_at), IDLE);
}

fn any_member() -> impl Strategy<Value = Member> {
    let state = prop::option::of(prop_oneof![
        Just(UpdateState::Pending),
        Just(UpdateState::Updating),
        Just(UpdateState::Done),
        Just(UpdateState::Unreachable),
        Just(UpdateState::Failed),
    ]);
    let times = (0..200_000u64, 0..200_000u64, 0..200_000u64);
    (state, any::<[bool; 3]>(), 1..4i32, times).prop_map(
        |(state, [is_online, is_up_to_date, is_busy], wave, (due, changed, connected))| {
            let (due_at, changed_at) = (NOW.plus_ms(due), NOW.plus_ms(changed));
            let progress = |state| MemberProgress { wave, state, is_busy, due_at, changed_at };
            let connected_at = NOW.plus_ms(connected);
            let id = AgentId::new();
            Member { id, is_online, connected_at, is_up_to_date, progress: state.map(progress) }
        },
    )
}

proptest! {
    #[test]
    fn a_wave_starts_only_within_the_limits_and_with_due_agents(
        members in prop::collection::vec(any_member(), 1..60),
        (size, budget, is_healthy, at) in (1u64..10, 0u64..5, any::<bool>(), 0..300_000u64),
    ) {
        let (last, now) = (CurrentWave { number: 3, is_healthy }, NOW.plus_ms(at));
        let NextStep::StartWave(chosen) = plan_group(policy(size, budget), last, &members, now) else {
            return Ok(());
        };
        let count = |state| members.iter()
            .filter(|member| member.progress.is_some_and(|p| p.state == state)).count() as u64;
        prop_assert!(is_healthy, "a wave must be healthy before the next one starts");
        prop_assert!(!chosen.is_empty() && chosen.len() as u64 <= size);
        prop_assert_eq!(count(UpdateState::Updating), 0);
        prop_assert!(count(UpdateState::Failed) <= budget);
        prop_assert!(count(UpdateState::Failed) + count(UpdateState::Unreachable) <= budget + 1);
        let is_chosen = |member: &&Member| chosen.contains(&member.id);
        for member in members.iter().filter(is_chosen) {
            prop_assert!(member.is_online && !member.is_up_to_date);
            let Some(progress) = member.progress else { continue };
            match progress.state {
                UpdateState::Pending => prop_assert!(progress.due_at <= now),
                UpdateState::Done => prop_assert!(progress.changed_at < member.connected_at),
                state => prop_assert!(false, "{state:?}"),
            }
        }
        let is_new = |member: &Member| {
            member.progress.is_none() && member.is_online && !member.is_up_to_date
        };
        let are_all_new = members.iter().filter(is_chosen).all(is_new);
        let left = members.iter().filter(|member| !chosen.contains(&member.id));
        prop_assert!(are_all_new || !left.into_iter().any(is_new), "agents without an attempt come first");
    }

    #[test]
    fn an_active_group_is_never_idle_while_an_agent_is_due(
        members in prop::collection::vec(any_member(), 1..20), at in 0..300_000u64,
    ) {
        let now = NOW.plus_ms(at);
        let NextStep::Idle { until } = plan_group(policy(1, 100), healthy(3), &members, now) else {
            return Ok(());
        };
        prop_assert!(until.is_none_or(|until| until > now));
        for member in members.iter().filter(|member| member.is_online && !member.is_up_to_date) {
            match member.progress {
                None => prop_assert!(false, "it has no attempt and is due"),
                Some(progress) if progress.state == UpdateState::Pending => {
                    prop_assert!(progress.due_at > now);
                    prop_assert!(until.is_some_and(|until| until <= progress.due_at));
                }
                Some(_) => {}
            }
        }
    }
}
