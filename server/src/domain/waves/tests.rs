//! Properties of the engine itself. Whole rollouts and groups are played in the tests of the
//! features.

use proptest::prelude::*;

use super::gate::{GateStatus, HealthGate, MemberHealth};
use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn any_gate() -> impl Strategy<Value = GateStatus> {
    let failed = (1usize..5, 0usize..5).prop_map(|(overdue, more)| GateStatus::Failed {
        overdue,
        unhealthy: overdue + more,
        within_ms: 1,
    });
    prop_oneof![
        Just(GateStatus::Open),
        Just(GateStatus::Closed { check_at: NOW.plus_ms(1) }),
        failed
    ]
}

fn any_snapshot() -> impl Strategy<Value = WaveSnapshot> {
    let phase = prop_oneof![
        Just(WavePhase::Running),
        any_gate().prop_map(WavePhase::Ended),
        Just(WavePhase::Passed),
    ];
    let due_at = prop::option::of(Just(NOW.plus_ms(5)));
    let successor = prop_oneof![
        Just(Successor::Ready),
        Just(Successor::None),
        due_at.clone().prop_map(|due_at| Successor::Empty { due_at }),
    ];
    let counts = (0..8u64, prop::option::of(0..5u64), 0..4u64, 0..6u64, 0..6u64);
    (1..9u32, phase, successor, counts, any::<bool>(), due_at).prop_map(
        |(wave, phase, successor, counts, counts_in_flight, held_back_until)| {
            let (failures, failure_limit, unreachable, held, in_flight) = counts;
            WaveSnapshot {
                wave,
                phase,
                failures,
                failure_limit,
                counts_in_flight,
                unreachable,
                held,
                in_flight,
                held_back_until,
                successor,
            }
        },
    )
}

proptest! {
    #[test]
    fn nothing_starts_above_the_failure_limit(snapshot in any_snapshot()) {
        if matches!(plan_next(&snapshot), WaveStep::Start(_) | WaveStep::NextWave) {
            prop_assert!(snapshot.failure_limit.is_none_or(|limit| snapshot.failures <= limit));
        }
    }

    #[test]
    fn starting_members_risks_at_most_one_failure_above_the_limit(snapshot in any_snapshot()) {
        let WaveStep::Start(count) = plan_next(&snapshot) else { return Ok(()) };
        prop_assert!(0 < count && count <= snapshot.held);
        if let Some(limit) = snapshot.failure_limit.filter(|_| snapshot.counts_in_flight) {
            prop_assert!(snapshot.failures + snapshot.in_flight + count <= limit + 1);
        }
    }

    #[test]
    fn the_next_wave_starts_only_after_the_current_one_has_passed(snapshot in any_snapshot()) {
        if plan_next(&snapshot) == WaveStep::NextWave {
            prop_assert_eq!(snapshot.phase, WavePhase::Passed);
            prop_assert_eq!((snapshot.held, snapshot.in_flight), (0, 0));
            prop_assert_eq!(snapshot.successor, Successor::Ready);
            prop_assert_eq!(snapshot.held_back_until, None);
        }
    }

    #[test]
    fn an_unhealthy_wave_passes_only_if_no_wave_follows(snapshot in any_snapshot()) {
        if plan_next(&snapshot) == WaveStep::PassWave && snapshot.successor == Successor::Ready {
            prop_assert_eq!(snapshot.phase, WavePhase::Ended(GateStatus::Open));
        }
    }

    #[test]
    fn a_gate_never_opens_while_an_agent_is_unhealthy_and_never_schedules_a_past_check(
        members in prop::collection::vec((any::<bool>(), 0i64..3_000, 0i64..3_000), 0..20),
        (opens_at, now) in (0i64..3_000, 0i64..3_000),
    ) {
        let members: Vec<_> = members.into_iter().map(|(is_online, healthy, deadline)| {
            let healthy_at = is_online.then_some(Timestamp(healthy));
            MemberHealth { healthy_at, deadline_at: Timestamp(deadline) }
        }).collect();
        let (opens_at, now) = (Timestamp(opens_at), Timestamp(now));
        let is_healthy = |member: &MemberHealth| member.healthy_at.is_some_and(|at| at <= now);
        match (HealthGate { for_ms: 0, within_ms: 1 }).evaluate(&members, opens_at, now) {
            GateStatus::Open => prop_assert!(members.iter().all(is_healthy) && opens_at <= now),
            GateStatus::Closed { check_at } => prop_assert!(check_at > now),
            GateStatus::Failed { overdue, unhealthy, .. } => {
                prop_assert!(0 < overdue && overdue <= unhealthy);
                let late = |member: &&MemberHealth| !is_healthy(member) && member.deadline_at <= now;
                prop_assert_eq!(members.iter().filter(late).count(), overdue);
            }
        }
    }
}

#[test]
fn a_halt_names_the_count_and_the_limit() {
    let halted = HaltReason::Failures { failures: 1, limit: 0 };
    let text = halted.sentence("Resume or abort the job.");
    assert_eq!(text, "Halted: 1 failed, the limit is 0. Resume or abort the job.");
    let halted = HaltReason::Unreachable { failures: 0, unreachable: 2, limit: 1 };
    assert!(halted.sentence("").starts_with("Halted: 2 agents went offline and 0 failed"));
}
