//! Whole roll-outs, played with executions that end as chance has it.

use proptest::prelude::*;

use super::amount::Amount;
use super::plan::Place;
use super::step::{Halt, Standing, Step};
use super::{Offline, Rollout};
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Execution {
    Held,
    InFlight,
    Succeeded,
    Failed,
}

struct Played {
    rollout: Rollout,
    executions: Vec<(u32, Execution)>,
    wave: u32,
    wave_count: u32,
    ended_at: Option<Timestamp>,
    now: Timestamp,
}

impl Played {
    fn new(rollout: Rollout, online: &[bool]) -> Self {
        let plan = rollout.plan(online);
        let wave = |place: &Place| match place {
            Place::Wave(wave) => Some((*wave, Execution::Held)),
            Place::Skipped => None,
        };
        Self {
            rollout,
            executions: plan.places.iter().filter_map(wave).collect(),
            wave: 1,
            wave_count: plan.wave_count,
            ended_at: None,
            now: Timestamp(0),
        }
    }

    fn count(&self, is: impl Fn(&(u32, Execution)) -> bool) -> u64 {
        self.executions.iter().filter(|execution| is(execution)).count() as u64
    }

    fn failures(&self) -> u64 {
        self.count(|(_, state)| *state == Execution::Failed)
    }

    fn step(&self) -> Step {
        let wave = self.wave;
        let standing = Standing {
            agents: self.executions.len() as u64,
            wave,
            wave_count: self.wave_count,
            failures: self.failures(),
            held: self.count(|(number, state)| *number == wave && *state == Execution::Held),
            in_flight: self.count(|(_, state)| *state == Execution::InFlight),
            has_begun: self
                .executions
                .iter()
                .any(|(number, state)| *number == wave && *state != Execution::Held),
            ended_at: self.ended_at,
            waits_since: Timestamp(0),
            is_waived: false,
            health: &[],
        };
        self.rollout.next_step(&standing, self.now)
    }

    /// One step; why it halted, if it did.
    fn go_on(&mut self) -> (Step, Option<Halt>) {
        let step = self.step();
        match step {
            Step::Wait => {}
            Step::WaitUntil(at) => {
                assert!(at > self.now, "waits for the past");
                self.now = at;
            }
            Step::Release(count) => {
                assert!(count > 0);
                let earlier = self.executions.iter().filter(|(wave, _)| *wave < self.wave);
                let ended = [Execution::Succeeded, Execution::Failed];
                assert!(earlier.clone().all(|(_, state)| ended.contains(state)), "out of order");
                let wave = self.wave;
                let held = self.executions.iter_mut();
                let held =
                    held.filter(|(number, state)| *number == wave && *state == Execution::Held);
                let released = held.take(usize::try_from(count).expect("small"));
                assert_eq!(
                    released.map(|(_, state)| *state = Execution::InFlight).count() as u64,
                    count
                );
            }
            Step::EndWave => self.ended_at = Some(self.now),
            Step::NextWave => {
                self.wave += 1;
                self.ended_at = None;
            }
            Step::Halt(halt) => return (step, Some(halt)),
        }
        (step, None)
    }

    /// Ends an execution that is in flight; false if none is.
    fn end_one(&mut self, which: usize, is_failure: bool) -> bool {
        let in_flight: Vec<_> = (0..self.executions.len())
            .filter(|index| self.executions[*index].1 == Execution::InFlight)
            .collect();
        let Some(index) = in_flight.get(which % in_flight.len().max(1)) else { return false };
        let end = if is_failure { Execution::Failed } else { Execution::Succeeded };
        self.executions[*index].1 = end;
        true
    }
}

fn rollouts() -> impl Strategy<Value = Rollout> {
    let wave_size =
        prop_oneof![(1u64..=60).prop_map(Amount::Count), (1u64..=100).prop_map(Amount::Percent),];
    let max_failures = prop_oneof![
        Just(None),
        (0u64..=10).prop_map(|count| Some(Amount::Count(count))),
        (0u64..=100).prop_map(|percent| Some(Amount::Percent(percent))),
    ];
    let offline = prop_oneof![Just(None), Just(Some(Offline::LastWave)), Just(Some(Offline::Skip))];
    (wave_size, max_failures, any::<bool>(), 0u64..50, offline).prop_map(
        |(wave_size, max_failures, counts_in_flight, pause_ms, offline)| Rollout {
            wave_size,
            pause_ms,
            max_failures,
            counts_in_flight,
            gate: None,
            offline,
        },
    )
}

proptest! {
    #[test]
    fn a_rollout_keeps_its_order_and_its_budget_and_comes_to_an_end(
        rollout in rollouts(),
        online in prop::collection::vec(any::<bool>(), 1..60),
        chances in prop::collection::vec((any::<usize>(), 0u8..4), 200),
    ) {
        let mut played = Played::new(rollout, &online);
        let all = played.executions.len() as u64;
        let budget = rollout.budget(all);
        let widest = rollout.plan(&online).places.len() as u64;
        let mut chances = chances.into_iter().cycle();
        // Each execution is released and ends once; each wave ends, rests and passes on once.
        let mut halted = None;
        for _ in 0..20 * (all + 2) {
            let (step, halt) = played.go_on();
            halted = halt;
            if halted.is_some() {
                break;
            }
            if step == Step::Wait {
                let (which, chance) = chances.next().expect("endless");
                if !played.end_one(which, chance == 0) {
                    break;
                }
            }
        }
        match (budget, rollout.counts_in_flight) {
            (Some(budget), true) => {
                // Whatever is in flight when it halts included.
                let worst = played.failures()
                    + played.count(|(_, state)| *state == Execution::InFlight);
                prop_assert!(worst <= budget + 1, "{worst} of {budget}");
            }
            (Some(budget), false) => prop_assert!(played.failures() <= budget + widest),
            (None, _) => prop_assert_eq!(halted, None),
        }
        if halted.is_none() {
            let open = [Execution::Held, Execution::InFlight];
            prop_assert_eq!(played.count(|(_, state)| open.contains(state)), 0, "stuck");
        }
    }
}

#[test]
fn with_no_failure_borne_the_first_one_halts_and_it_goes_one_by_one() {
    let rollout = Rollout {
        wave_size: Amount::Count(3),
        pause_ms: 0,
        max_failures: Some(Amount::Count(0)),
        counts_in_flight: true,
        gate: None,
        offline: None,
    };
    let mut played = Played::new(rollout, &[true; 6]);
    assert_eq!(played.go_on().0, Step::Release(1));
    assert_eq!(played.go_on().0, Step::Wait);
    played.end_one(0, false);
    assert_eq!(played.go_on().0, Step::Release(1));
    played.end_one(0, true);
    assert_eq!(played.go_on().1, Some(Halt::Budget { failures: 1, budget: 0 }));
    // With whole waves, all three were under way.
    let mut whole = Played::new(Rollout { counts_in_flight: false, ..rollout }, &[true; 6]);
    assert_eq!(whole.go_on().0, Step::Release(3));
}

#[test]
fn a_failure_too_many_in_the_last_wave_with_nothing_left_halts_nothing() {
    let rollout = Rollout {
        wave_size: Amount::Count(2),
        pause_ms: 0,
        max_failures: Some(Amount::Count(0)),
        counts_in_flight: false,
        gate: None,
        offline: None,
    };
    let mut played = Played::new(rollout, &[true; 2]);
    played.go_on();
    played.end_one(0, true);
    assert_eq!(played.step(), Step::Wait);
}
