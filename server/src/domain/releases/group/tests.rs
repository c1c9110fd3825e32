//! Properties and examples of what is next for a group.

use proptest::prelude::*;

use super::plan::{GATE_MS, Next, RETURN_MS, next};
use super::{Member, Progress, RolloutPolicy, UpdateState, Wave};
use crate::domain::commands::rollout::amount::Amount;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const RESTS: Next = Next::Rest { until: None };

fn pace(wave_size: u64, max_failures: u64) -> RolloutPolicy {
    RolloutPolicy {
        wave_size: Amount::Count(wave_size),
        max_failures: Amount::Count(max_failures),
        healthy_for_ms: 0,
    }
}

fn wave(number: i32) -> Wave {
    Wave { number, is_well: false }
}

fn well(number: i32) -> Wave {
    Wave { number, is_well: true }
}

fn member(state: Option<UpdateState>) -> Member {
    Member {
        id: AgentId::new(),
        is_online: true,
        connected_at: NOW,
        is_there: state == Some(UpdateState::Done),
        progress: state.map(|state| Progress {
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
    let progress = Progress { wave, state, is_busy, due_at, changed_at: NOW };
    Member { progress: Some(progress), ..member(None) }
}

#[test]
fn a_wave_waits_for_the_one_before_and_for_its_health() {
    let mut members = vec![member(Some(UpdateState::Updating)), member(None)];
    assert_eq!(next(pace(1, 0), wave(1), &members, NOW), Next::Wait);
    members[0] = member(Some(UpdateState::Done));
    assert_eq!(next(pace(1, 0), wave(1), &members, NOW), Next::Well);
    let wanted = Next::Wave(vec![members[1].id]);
    assert_eq!(next(pace(1, 0), well(1), &members, NOW), wanted);
    let patient = RolloutPolicy { healthy_for_ms: 1_000, ..pace(1, 0) };
    assert_eq!(next(patient, wave(1), &members, NOW), Next::Wait);
    assert_eq!(next(patient, wave(1), &members, NOW.plus_ms(1_000)), Next::Well);
    members[0].is_online = false;
    assert_eq!(next(pace(1, 0), wave(1), &members, NOW), Next::Wait);
    let later = NOW.plus_ms(GATE_MS + 1);
    assert!(matches!(next(pace(1, 0), wave(1), &members, later), Next::Halt(_)));
}

#[test]
fn a_wave_that_was_well_halts_nothing_when_one_of_it_goes_away_later() {
    let mut members = vec![member(Some(UpdateState::Done)), member(None)];
    members[0].is_online = false;
    let later = NOW.plus_ms(90 * 24 * 3_600_000);
    let wanted = Next::Wave(vec![members[1].id]);
    assert_eq!(next(pace(1, 0), well(1), &members, later), wanted);
}

#[test]
fn a_last_wave_whose_agents_stay_away_is_over_after_its_time() {
    let mut members = vec![member(Some(UpdateState::Done))];
    members[0].is_online = false;
    assert_eq!(next(pace(1, 0), wave(1), &members, NOW), Next::Wait);
    let mut late = member(Some(UpdateState::Done));
    late.is_online = false;
    if let Some(progress) = &mut late.progress {
        progress.changed_at = NOW.plus_ms(1_000);
    }
    let both = [members[0].clone(), late];
    assert_eq!(next(pace(1, 0), wave(1), &both, NOW.plus_ms(GATE_MS + 1)), Next::Wait);
    assert_eq!(next(pace(1, 0), wave(1), &members, NOW.plus_ms(GATE_MS + 1)), Next::Well);
    assert_eq!(next(pace(1, 0), well(1), &members, NOW.plus_ms(GATE_MS + 1)), RESTS);
}

#[test]
fn who_is_offline_is_left_until_it_comes() {
    let mut members = vec![member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(next(pace(5, 0), well(0), &members, NOW), Next::Wave(vec![members[1].id]));
    members[1] = member(Some(UpdateState::Done));
    assert_eq!(next(pace(5, 0), well(1), &members, NOW), RESTS);
    members[0].is_online = true;
    assert_eq!(next(pace(5, 0), well(1), &members, NOW), Next::Wave(vec![members[0].id]));
    // One that is to be asked again is no reason to look every moment, while it is off.
    members[0] = Member { is_online: false, ..pending(1, false, NOW) };
    assert_eq!(next(pace(5, 0), well(1), &members, NOW), RESTS);
}

#[test]
fn who_is_away_holds_nobody_up_unless_it_is_a_sign() {
    let mut members = vec![member(Some(UpdateState::Unreachable)), member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(next(pace(1, 0), well(1), &members, NOW), Next::Wave(vec![members[1].id]));
    members[1] = member(Some(UpdateState::Unreachable));
    assert!(matches!(next(pace(1, 0), well(2), &members, NOW), Next::Halt(_)));
    assert_eq!(next(pace(1, 1), well(2), &members, NOW), Next::Wave(vec![members[2].id]));
    members[1] = member(Some(UpdateState::Failed));
    assert!(matches!(next(pace(1, 0), well(2), &members, NOW), Next::Halt(_)));
    let mut rest = [member(Some(UpdateState::Unreachable)), member(Some(UpdateState::Done))];
    assert_eq!(next(pace(1, 0), well(2), &rest, NOW), Next::Wait, "it is back and about to tell");
    rest[0].is_online = false;
    assert_eq!(next(pace(1, 0), well(2), &rest, NOW), RESTS);
}

#[test]
fn a_wave_that_the_network_has_failed_holds_the_next_up() {
    let later = NOW.plus_ms(1);
    let members = vec![pending(1, false, later), member(None)];
    let rests = Next::Rest { until: Some(later) };
    assert_eq!(next(pace(1, 0), well(1), &members, NOW), rests);
    assert_eq!(next(pace(1, 1), well(1), &members, NOW), Next::Wave(vec![members[1].id]));
    let both = Next::Wave(vec![members[1].id, members[0].id]);
    assert_eq!(next(pace(2, 0), well(1), &members, later), both);
}

#[test]
fn a_busy_host_holds_nobody_up_and_comes_last() {
    let later = NOW.plus_ms(1);
    let mut members = vec![pending(1, true, later), member(None)];
    assert_eq!(next(pace(1, 0), well(1), &members, NOW), Next::Wave(vec![members[1].id]));
    assert_eq!(next(pace(1, 0), well(1), &members, later), Next::Wave(vec![members[1].id]));
    members[1] = member(Some(UpdateState::Done));
    assert_eq!(next(pace(1, 0), well(1), &members, NOW), Next::Rest { until: Some(later) });
    assert_eq!(next(pace(1, 0), well(1), &members, later), Next::Wave(vec![members[0].id]));
}

#[test]
fn who_comes_back_as_another_is_asked_again_if_it_does_not_return_by_itself() {
    let came_at = NOW.plus_ms(5_000);
    let mut members = vec![member(Some(UpdateState::Done))];
    members[0].is_there = false;
    assert_eq!(next(pace(1, 0), well(1), &members, NOW), RESTS, "the same session still");
    members[0].connected_at = came_at;
    let due_at = came_at.plus_ms(RETURN_MS);
    let rests = Next::Rest { until: Some(due_at) };
    assert_eq!(next(pace(1, 0), well(1), &members, came_at), rests);
    assert_eq!(next(pace(1, 0), well(1), &members, due_at), Next::Wave(vec![members[0].id]));
    members[0].is_online = false;
    assert_eq!(next(pace(1, 0), well(1), &members, due_at), RESTS);
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
        |(state, [is_online, is_there, is_busy], wave, (due, changed, connected))| {
            let (due_at, changed_at) = (NOW.plus_ms(due), NOW.plus_ms(changed));
            let progress = |state| Progress { wave, state, is_busy, due_at, changed_at };
            let connected_at = NOW.plus_ms(connected);
            let id = AgentId::new();
            Member { id, is_online, connected_at, is_there, progress: state.map(progress) }
        },
    )
}

proptest! {
    #[test]
    fn a_wave_is_asked_only_where_it_may_and_only_who_may(
        members in prop::collection::vec(any_member(), 1..60),
        (size, budget, is_well, at) in (1u64..10, 0u64..5, any::<bool>(), 0..300_000u64),
    ) {
        let (last, now) = (Wave { number: 3, is_well }, NOW.plus_ms(at));
        let Next::Wave(chosen) = next(pace(size, budget), last, &members, now) else {
            return Ok(());
        };
        let count = |wanted| members.iter()
            .filter(|member| member.progress.is_some_and(|p| p.state == wanted)).count() as u64;
        prop_assert!(is_well, "the health of a wave is noted before another begins");
        prop_assert!(!chosen.is_empty() && chosen.len() as u64 <= size);
        prop_assert_eq!(count(UpdateState::Updating), 0);
        prop_assert!(count(UpdateState::Failed) <= budget);
        prop_assert!(count(UpdateState::Failed) + count(UpdateState::Unreachable) <= budget + 1);
        let is_chosen = |member: &&Member| chosen.contains(&member.id);
        for member in members.iter().filter(is_chosen) {
            prop_assert!(member.is_online && !member.is_there);
            let Some(progress) = member.progress else { continue };
            match progress.state {
                UpdateState::Pending => prop_assert!(progress.due_at <= now),
                UpdateState::Done => prop_assert!(progress.changed_at < member.connected_at),
                state => prop_assert!(false, "{state:?}"),
            }
        }
        let is_new = |member: &Member| {
            member.progress.is_none() && member.is_online && !member.is_there
        };
        let are_all_new = members.iter().filter(is_chosen).all(is_new);
        let left = members.iter().filter(|member| !chosen.contains(&member.id));
        prop_assert!(are_all_new || !left.into_iter().any(is_new), "who was never asked is first");
    }

    #[test]
    fn an_active_group_never_rests_while_somebody_could_be_asked(
        members in prop::collection::vec(any_member(), 1..20), at in 0..300_000u64,
    ) {
        let now = NOW.plus_ms(at);
        let Next::Rest { until } = next(pace(1, 100), well(3), &members, now) else {
            return Ok(());
        };
        prop_assert!(until.is_none_or(|until| until > now));
        for member in members.iter().filter(|member| member.is_online && !member.is_there) {
            match member.progress {
                None => prop_assert!(false, "it was never asked"),
                Some(progress) if progress.state == UpdateState::Pending => {
                    prop_assert!(progress.due_at > now);
                    prop_assert!(until.is_some_and(|until| until <= progress.due_at));
                }
                Some(_) => {}
            }
        }
    }
}
