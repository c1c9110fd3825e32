//! Properties of single steps and of whole rollouts.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{NOW, cohort, healthy, member, policy, wave};
use crate::domain::ids::AgentId;
use crate::domain::releases::group::cohort::{CohortState, canaries, state_of};
use crate::domain::releases::group::plan::{NextStep, plan_group};
use crate::domain::releases::group::{CurrentWave, Member, MemberProgress, UpdateState};

fn any_member() -> impl Strategy<Value = Member> {
    let state = prop::option::of(prop_oneof![
        Just(UpdateState::Pending),
        Just(UpdateState::Updating),
        Just(UpdateState::Done),
        Just(UpdateState::Unreachable),
        Just(UpdateState::Failed),
    ]);
    let times = (0..200_000u64, 0..200_000u64, 0..200_000u64);
    (state, any::<[bool; 5]>(), 1..4i32, times, 0..3usize).prop_map(
        |(
            state,
            [is_online, is_up_to_date, is_busy, is_canary, is_probed],
            wave,
            (due, changed, connected),
            cohort_number,
        )| {
            let (due_at, changed_at) = (NOW.plus_ms(due), NOW.plus_ms(changed));
            let progress = |state| MemberProgress {
                wave,
                state,
                is_busy,
                due_at,
                changed_at,
                is_canary,
                is_probed: is_canary && is_probed,
            };
            let connected_at = NOW.plus_ms(connected);
            let id = AgentId::new();
            let cohort = cohort(["systemd", "openrc", "cron"][cohort_number]);
            let progress = state.map(progress);
            Member { id, is_online, connected_at, is_up_to_date, cohort, progress }
        },
    )
}

/// At most one canary in each cohort, as the store keeps them.
fn any_members(most: usize) -> impl Strategy<Value = Vec<Member>> {
    prop::collection::vec(any_member(), 1..most).prop_map(|mut members| {
        let mut taken = BTreeSet::new();
        for member in &mut members {
            let Some(progress) = member.progress.as_mut().filter(|progress| progress.is_canary)
            else {
                continue;
            };
            progress.is_canary = taken.insert(member.cohort);
            progress.is_probed &= progress.is_canary;
        }
        members
    })
}

proptest! {
    #[test]
    fn a_wave_starts_only_within_the_limits_and_with_due_agents(
        members in any_members(60),
        (size, budget, is_healthy, at) in (1u64..10, 0u64..5, any::<bool>(), 0..300_000u64),
    ) {
        let (last, now) = (CurrentWave { number: 3, is_healthy }, NOW.plus_ms(at));
        let NextStep::StartWave(chosen) = plan_group(policy(size, budget), last, &members, now) else {
            return Ok(());
        };
        let count = |state| members.iter()
            .filter(|member| member.progress.is_some_and(|p| p.state == state)).count() as u64;
        prop_assert!(is_healthy, "a wave must be healthy before the next one starts");
        let ordinary = chosen.iter().filter(|member| !member.is_canary).count() as u64;
        prop_assert!(!chosen.is_empty() && (ordinary == 0 || chosen.len() as u64 <= size));
        let known = canaries(&members);
        for start in &chosen {
            let canary = known.get(&start.cohort).copied();
            let own_canaries = chosen.iter().filter(|other| other.is_canary && other.cohort == start.cohort);
            let own_canaries = own_canaries.count();
            match start.is_canary {
                true => {
                    prop_assert_eq!(own_canaries, 1, "one canary for each cohort");
                    let is_allowed = canary.is_none_or(|canary| {
                        canary.id == start.id || state_of(Some(canary)) == CohortState::Unproven
                    });
                    prop_assert!(is_allowed);
                }
                false => {
                    prop_assert_eq!(own_canaries, 0);
                    prop_assert_eq!(state_of(canary), CohortState::Proven, "an agent follows before its canary has succeeded");
                }
            }
        }
        prop_assert_eq!(count(UpdateState::Updating), 0);
        prop_assert!(count(UpdateState::Failed) <= budget);
        prop_assert!(count(UpdateState::Failed) + count(UpdateState::Unreachable) <= budget + 1);
        let is_chosen = |member: &&Member| chosen.iter().any(|start| start.id == member.id);
        for member in members.iter().filter(is_chosen) {
            prop_assert!(member.is_online && !member.is_up_to_date);
            let Some(progress) = member.progress else { continue };
            match progress.state {
                UpdateState::Pending => prop_assert!(progress.due_at <= now),
                UpdateState::Done => prop_assert!(progress.changed_at < member.connected_at),
                state => prop_assert!(false, "{state:?}"),
            }
        }
    }

    #[test]
    fn an_active_group_is_never_idle_while_an_agent_is_due(
        members in any_members(20), at in 0..300_000u64,
    ) {
        let now = NOW.plus_ms(at);
        let NextStep::Idle { until } = plan_group(policy(1, 100), healthy(3), &members, now) else {
            return Ok(());
        };
        prop_assert!(until.is_none_or(|until| until > now));
        let known = canaries(&members);
        let is_free = |member: &&Member| state_of(known.get(&member.cohort).copied()) == CohortState::Proven
            || !known.contains_key(&member.cohort);
        let needs = members.iter().filter(|member| member.is_online && !member.is_up_to_date);
        for member in needs.filter(is_free) {
            match member.progress {
                None => {
                    // Its canary returned with another version, and comes first.
                    let canary = known.get(&member.cohort);
                    prop_assert!(canary.is_some_and(|canary| !canary.is_up_to_date), "it is due");
                }
                Some(progress) if progress.state == UpdateState::Pending => {
                    prop_assert!(progress.due_at > now);
                    prop_assert!(until.is_some_and(|until| until <= progress.due_at));
                }
                Some(_) => {}
            }
        }
    }

    /// Plays whole rollouts: each step of the plan is carried out, and each update ends at random.
    #[test]
    fn a_rollout_ends_and_no_agent_follows_a_canary_that_is_not_proven(
        fleet in prop::collection::vec((0..3usize, any::<bool>()), 1..30),
        (size, budget) in (1u64..6, 0u64..4),
        fails in prop::collection::vec(prop::bool::weighted(0.2), 30),
    ) {
        let mut members: Vec<Member> = fleet.iter().map(|(number, is_online)| Member {
            cohort: cohort(["systemd", "openrc", "cron"][*number]), is_online: *is_online, ..member(None)
        }).collect();
        let mut last = healthy(0);
        for _ in 0..100 {
            match plan_group(policy(size, budget), last, &members, NOW) {
                NextStep::StartWave(chosen) => {
                    let number = last.number + 1;
                    if number == 1 {
                        let online: BTreeSet<_> =
                            members.iter().filter(|member| member.is_online).map(|member| member.cohort).collect();
                        prop_assert!(chosen.iter().all(|start| start.is_canary));
                        prop_assert_eq!(chosen.len(), online.len(), "one of each cohort, for every size");
                    }
                    for start in chosen {
                        let at = members.iter().position(|member| member.id == start.id).expect("a member");
                        let canary = canaries(&members).get(&start.cohort).map(|canary| canary.is_up_to_date);
                        prop_assert_eq!(canary, (!start.is_canary).then_some(true));
                        prop_assert!(members[at].progress.is_none(), "each is asked once");
                        let state = if fails[at] { UpdateState::Failed } else { UpdateState::Done };
                        let done = member(Some(state));
                        members[at].is_up_to_date = done.is_up_to_date;
                        members[at].progress = done.progress.map(|progress| MemberProgress {
                            wave: number, is_canary: start.is_canary, ..progress
                        });
                    }
                    last = wave(number);
                }
                NextStep::WaveHealthy => last = healthy(last.number),
                NextStep::Idle { .. } | NextStep::Halt(_) => return Ok(()),
                NextStep::Wait => prop_assert!(false, "nothing is under way"),
            }
        }
        prop_assert!(false, "the rollout does not end");
    }
}
