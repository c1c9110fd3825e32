use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn pace(wave_size: u64, max_failures: u64) -> Pace {
    Pace {
        wave_size: Amount::Count(wave_size),
        max_failures: Amount::Count(max_failures),
        healthy_for_ms: 0,
    }
}

fn member(state: Option<UpdateState>) -> Member {
    Member {
        id: AgentId::new(),
        is_online: true,
        connected_at: NOW,
        is_there: state == Some(UpdateState::Done),
        progress: state.map(|state| Progress { wave: 1, state, due_at: NOW, changed_at: NOW }),
    }
}

#[test]
fn a_wave_waits_for_the_one_before_and_for_its_health() {
    let mut members = vec![member(Some(UpdateState::Updating)), member(None)];
    assert_eq!(next(pace(1, 0), 1, &members, NOW), Next::Wait);
    members[0] = member(Some(UpdateState::Done));
    let wanted = Next::Wave(vec![members[1].id]);
    assert_eq!(next(pace(1, 0), 1, &members, NOW), wanted);
    members[0].is_online = false;
    assert_eq!(next(pace(1, 0), 1, &members, NOW), Next::Wait);
    let later = NOW.plus_ms(GATE_MS + 1);
    assert!(matches!(next(pace(1, 0), 1, &members, later), Next::Halt(_)));
    members[0].is_online = true;
    let patient = Pace { healthy_for_ms: 1_000, ..pace(1, 0) };
    assert_eq!(next(patient, 1, &members, NOW), Next::Wait);
    assert_eq!(next(patient, 1, &members, NOW.plus_ms(1_000)), wanted);
}

#[test]
fn who_is_offline_is_left_until_it_comes() {
    let mut members = vec![member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(next(pace(5, 0), 0, &members, NOW), Next::Wave(vec![members[1].id]));
    members[1] = member(Some(UpdateState::Done));
    assert_eq!(next(pace(5, 0), 1, &members, NOW), Next::Rest);
    members[0].is_online = true;
    assert_eq!(next(pace(5, 0), 1, &members, NOW), Next::Wave(vec![members[0].id]));
}

#[test]
fn who_is_away_holds_nobody_up_unless_it_is_a_sign() {
    let mut members = vec![member(Some(UpdateState::Away)), member(None), member(None)];
    members[0].is_online = false;
    assert_eq!(next(pace(1, 0), 1, &members, NOW), Next::Wave(vec![members[1].id]));
    members[1] = member(Some(UpdateState::Away));
    assert!(matches!(next(pace(1, 0), 2, &members, NOW), Next::Halt(_)));
    assert_eq!(next(pace(1, 1), 2, &members, NOW), Next::Wave(vec![members[2].id]));
    members[1] = member(Some(UpdateState::Failed));
    assert!(matches!(next(pace(1, 0), 2, &members, NOW), Next::Halt(_)));
    let mut rest = [member(Some(UpdateState::Away)), member(Some(UpdateState::Done))];
    assert_eq!(next(pace(1, 0), 2, &rest, NOW), Next::Wait, "it is back and about to tell");
    rest[0].is_online = false;
    assert_eq!(next(pace(1, 0), 2, &rest, NOW), Next::Rest);
}

#[test]
fn a_wave_that_the_network_has_failed_holds_the_next_up() {
    let mut members = vec![member(Some(UpdateState::Pending)), member(None)];
    if let Some(progress) = &mut members[0].progress {
        progress.due_at = NOW.plus_ms(1);
    }
    assert_eq!(next(pace(1, 0), 1, &members, NOW), Next::Wait);
    assert_eq!(next(pace(1, 1), 1, &members, NOW), Next::Wave(vec![members[1].id]));
    assert_eq!(next(pace(1, 0), 1, &members, NOW.plus_ms(1)), Next::Wave(vec![members[0].id]));
}

#[test]
fn who_is_asked_again_is_asked_later_each_time_and_not_for_ever() {
    let delays: Vec<_> =
        (1..=MAX_TRIES).map(|tries| retry_at(tries, NOW).map(|at| at.ms_since(NOW))).collect();
    assert_eq!(delays, [Some(60_000), Some(120_000), Some(240_000), Some(480_000), None]);
}

proptest! {
    #[test]
    fn never_more_than_a_wave_at_once_and_none_beyond_the_budget(
        states in prop::collection::vec(prop::option::of(0u8..5), 1..60),
        size in 1u64..10, budget in 0u64..5,
    ) {
        let state = |state: Option<u8>| state.map(|state| match state {
            0 => UpdateState::Pending,
            1 => UpdateState::Updating,
            2 => UpdateState::Done,
            3 => UpdateState::Away,
            _ => UpdateState::Failed,
        });
        let members: Vec<_> = states.into_iter().map(|s| member(state(s))).collect();
        let in_state = |wanted| members.iter()
            .filter(|member| member.progress.is_some_and(|p| p.state == wanted)).count();
        if let Next::Wave(chosen) = next(pace(size, budget), 1, &members, NOW) {
            prop_assert!(!chosen.is_empty() && chosen.len() as u64 <= size);
            prop_assert_eq!(in_state(UpdateState::Updating), 0);
            let failed = in_state(UpdateState::Failed) as u64;
            prop_assert!(failed <= budget);
            prop_assert!(failed + in_state(UpdateState::Away) as u64 <= budget + 1);
        }
    }
}
