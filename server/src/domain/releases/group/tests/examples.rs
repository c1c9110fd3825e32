//! Examples.

use super::{NOW, healthy, member, policy, wave};
use crate::domain::releases::group::plan::{NextStep, RETURN_MS, plan_group};
use crate::domain::releases::group::{
    Member, MemberProgress, RolloutPolicy, UpdateState, WaveMember,
};
use crate::domain::time::Timestamp;
use crate::domain::waves::gate::GATE_MS;

const IDLE: NextStep = NextStep::Idle { until: None };

/// These members and, offline, the canary that has proven their cohort.
fn proven(members: &[Member]) -> Vec<Member> {
    let mut canary = member(Some(UpdateState::Done));
    canary.is_online = false;
    if let Some(progress) = &mut canary.progress {
        (progress.is_canary, progress.wave) = (true, 0);
    }
    members.iter().cloned().chain([canary]).collect()
}

fn start(members: &[&Member]) -> NextStep {
    let start =
        |member: &&Member| WaveMember { id: member.id, cohort: member.cohort, is_canary: false };
    NextStep::StartWave(members.iter().map(start).collect())
}

fn pending(wave: i32, is_busy: bool, due_at: Timestamp) -> Member {
    let state = UpdateState::Pending;
    let progress = MemberProgress {
        is_canary: false,
        is_probed: false,
        wave,
        state,
        is_busy,
        due_at,
        changed_at: NOW,
    };
    Member { progress: Some(progress), ..member(None) }
}

#[test]
fn a_wave_waits_until_the_previous_wave_is_healthy() {
    let mut members = vec![member(Some(UpdateState::Updating)), member(None)];
    assert_eq!(plan_group(policy(1, 0), wave(1), &proven(&members), NOW), NextStep::Wait);
    members[0] = member(Some(UpdateState::Done));
    assert_eq!(plan_group(policy(1, 0), wave(1), &proven(&members), NOW), NextStep::WaveHealthy);
    let expected = start(&[&members[1]]);
    assert_eq!(plan_group(policy(1, 0), healthy(1), &proven(&members), NOW), expected);
    let patient = RolloutPolicy { healthy_for_ms: 1_000, ..policy(1, 0) };
    assert_eq!(plan_group(patient, wave(1), &proven(&members), NOW), NextStep::Wait);
    assert_eq!(
        plan_group(patient, wave(1), &proven(&members), NOW.plus_ms(1_000)),
        NextStep::WaveHealthy
    );
    members[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), wave(1), &proven(&members), NOW), NextStep::Wait);
    let later = NOW.plus_ms(GATE_MS + 1);
    assert!(matches!(
        plan_group(policy(1, 0), wave(1), &proven(&members), later),
        NextStep::Halt(_)
    ));
}

#[test]
fn an_agent_that_goes_offline_after_its_wave_was_healthy_does_not_halt_the_group() {
    let mut members = vec![member(Some(UpdateState::Done)), member(None)];
    members[0].is_online = false;
    let later = NOW.plus_ms(90 * 24 * 3_600_000);
    let expected = start(&[&members[1]]);
    assert_eq!(plan_group(policy(1, 0), healthy(1), &proven(&members), later), expected);
}

#[test]
fn a_last_wave_whose_agents_stay_offline_ends_after_its_deadline() {
    let mut members = vec![member(Some(UpdateState::Done))];
    members[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), wave(1), &proven(&members), NOW), NextStep::Wait);
    let mut late = member(Some(UpdateState::Done));
    late.is_online = false;
    if let Some(progress) = &mut late.progress {
        progress.changed_at = NOW.plus_ms(1_000);
    }
    let both = [members[0].clone(), late];
    assert_eq!(
        plan_group(policy(1, 0), wave(1), &proven(&both), NOW.plus_ms(GATE_MS + 1)),
        NextStep::Wait
    );
    assert_eq!(
        plan_group(policy(1, 0), wave(1), &proven(&members), NOW.plus_ms(GATE_MS + 1)),
        NextStep::WaveHealthy
    );
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &proven(&members), NOW.plus_ms(GATE_MS + 1)),
        IDLE
    );
}

#[test]
fn an_offline_agent_is_updated_when_it_connects() {
    let mut members = vec![member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(plan_group(policy(5, 0), healthy(0), &proven(&members), NOW), start(&[&members[1]]));
    members[1] = member(Some(UpdateState::Done));
    assert_eq!(plan_group(policy(5, 0), healthy(1), &proven(&members), NOW), IDLE);
    members[0].is_online = true;
    assert_eq!(plan_group(policy(5, 0), healthy(1), &proven(&members), NOW), start(&[&members[0]]));
    // A retry of an agent that is offline is no reason to plan again soon.
    members[0] = Member { is_online: false, ..pending(1, false, NOW) };
    assert_eq!(plan_group(policy(5, 0), healthy(1), &proven(&members), NOW), IDLE);
}

#[test]
fn one_unreachable_agent_delays_no_other_and_two_halt_the_group() {
    let mut members = vec![member(Some(UpdateState::Unreachable)), member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), healthy(1), &proven(&members), NOW), start(&[&members[1]]));
    members[1] = member(Some(UpdateState::Unreachable));
    assert!(matches!(
        plan_group(policy(1, 0), healthy(2), &proven(&members), NOW),
        NextStep::Halt(_)
    ));
    assert_eq!(plan_group(policy(1, 1), healthy(2), &proven(&members), NOW), start(&[&members[2]]));
    members[1] = member(Some(UpdateState::Failed));
    assert!(matches!(
        plan_group(policy(1, 0), healthy(2), &proven(&members), NOW),
        NextStep::Halt(_)
    ));
    let mut rest = [member(Some(UpdateState::Unreachable)), member(Some(UpdateState::Done))];
    assert_eq!(
        plan_group(policy(1, 0), healthy(2), &proven(&rest), NOW),
        NextStep::Wait,
        "it is back online and about to report"
    );
    rest[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), healthy(2), &proven(&rest), NOW), IDLE);
}

#[test]
fn agents_waiting_for_a_retry_delay_the_next_wave_above_the_limit() {
    let later = NOW.plus_ms(1);
    let members = vec![pending(1, false, later), member(None)];
    let idle = NextStep::Idle { until: Some(later) };
    assert_eq!(plan_group(policy(1, 0), healthy(1), &proven(&members), NOW), idle);
    assert_eq!(plan_group(policy(1, 1), healthy(1), &proven(&members), NOW), start(&[&members[1]]));
    let both = start(&[&members[1], &members[0]]);
    assert_eq!(plan_group(policy(2, 0), healthy(1), &proven(&members), later), both);
}

#[test]
fn a_busy_agent_delays_no_other_and_is_updated_last() {
    let later = NOW.plus_ms(1);
    let mut members = vec![pending(1, true, later), member(None)];
    assert_eq!(plan_group(policy(1, 0), healthy(1), &proven(&members), NOW), start(&[&members[1]]));
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &proven(&members), later),
        start(&[&members[1]])
    );
    members[1] = member(Some(UpdateState::Done));
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &proven(&members), NOW),
        NextStep::Idle { until: Some(later) }
    );
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &proven(&members), later),
        start(&[&members[0]])
    );
}

#[test]
fn an_agent_that_reconnects_with_another_version_is_updated_again_after_a_delay() {
    let came_at = NOW.plus_ms(5_000);
    let mut members = vec![member(Some(UpdateState::Done))];
    members[0].is_up_to_date = false;
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &proven(&members), NOW),
        IDLE,
        "it is still in the same session"
    );
    members[0].connected_at = came_at;
    let due_at = came_at.plus_ms(RETURN_MS);
    let idle = NextStep::Idle { until: Some(due_at) };
    assert_eq!(plan_group(policy(1, 0), healthy(1), &proven(&members), came_at), idle);
    assert_eq!(
        plan_group(policy(1, 0), healthy(1), &proven(&members), due_at),
        start(&[&members[0]])
    );
    members[0].is_online = false;
    assert_eq!(plan_group(policy(1, 0), healthy(1), &proven(&members), due_at), IDLE);
}

#[test]
fn a_canary_that_waits_offline_is_replaced_and_one_that_repeats_its_execution_is_not() {
    let mut canary = pending(1, true, NOW.plus_ms(1));
    if let Some(progress) = &mut canary.progress {
        (progress.is_canary, progress.is_probed) = (true, true);
    }
    canary.is_up_to_date = true;
    let other = member(None);
    let idle = NextStep::Idle { until: Some(NOW.plus_ms(1)) };
    let both = [canary.clone(), other.clone()];
    assert_eq!(plan_group(policy(5, 0), healthy(1), &both, NOW), idle);
    canary.is_online = false;
    let chosen = WaveMember { id: other.id, cohort: other.cohort, is_canary: true };
    let start = NextStep::StartWave(vec![chosen]);
    assert_eq!(plan_group(policy(5, 0), healthy(1), &[canary, other], NOW), start);
}
