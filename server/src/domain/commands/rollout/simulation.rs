//! Whole rollouts, simulated with executions that end at random.

use proptest::prelude::*;

use super::plan::Placement;
use super::step::RolloutSnapshot;
use super::{Offline, Rollout};
use crate::domain::time::Timestamp;
use crate::domain::waves::amount::Amount;
use crate::domain::waves::{HaltReason, WaveStep};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SimulatedExecution {
    Held,
    InFlight,
    Succeeded,
    Failed,
}

struct RolloutSimulation {
    rollout: Rollout,
    executions: Vec<(u32, SimulatedExecution)>,
    wave: u32,
    wave_count: u32,
    ended_at: Option<Timestamp>,
    now: Timestamp,
}

impl RolloutSimulation {
    fn new(rollout: Rollout, online: &[bool]) -> Self {
        let plan = rollout.plan(online);
        let wave = |placement: &Placement| match placement {
            Placement::Wave(wave) => Some((*wave, SimulatedExecution::Held)),
            Placement::Skipped => None,
        };
        Self {
            rollout,
            executions: plan.placements.iter().filter_map(wave).collect(),
            wave: 1,
            wave_count: plan.wave_count,
            ended_at: None,
            now: Timestamp(0),
        }
    }

    fn count(&self, is: impl Fn(&(u32, SimulatedExecution)) -> bool) -> u64 {
        self.executions.iter().filter(|execution| is(execution)).count() as u64
    }

    fn failures(&self) -> u64 {
        self.count(|(_, state)| *state == SimulatedExecution::Failed)
    }

    fn step(&self) -> WaveStep {
        let wave = self.wave;
        let snapshot = RolloutSnapshot {
            agents: self.executions.len() as u64,
            wave,
            wave_count: self.wave_count,
            failures: self.failures(),
            held: self
                .count(|(number, state)| *number == wave && *state == SimulatedExecution::Held),
            in_flight: self.count(|(_, state)| *state == SimulatedExecution::InFlight),
            has_started: self
                .executions
                .iter()
                .any(|(number, state)| *number == wave && *state != SimulatedExecution::Held),
            ended_at: self.ended_at,
            waits_since: Timestamp(0),
            is_waived: false,
            agent_health: &[],
        };
        self.rollout.next_step(&snapshot, self.now)
    }

    /// Carries out one step; the reason if it halted.
    fn advance(&mut self) -> (WaveStep, Option<HaltReason>) {
        let step = self.step();
        match step {
            WaveStep::Wait => {}
            WaveStep::Idle { .. } => panic!("a rollout has a next wave or is over"),
            WaveStep::WaitUntil(at) => {
                assert!(at > self.now, "the instant is in the past");
                self.now = at;
            }
            WaveStep::Start(count) => {
                assert!(count > 0);
                let earlier = self.executions.iter().filter(|(wave, _)| *wave < self.wave);
                let ended = [SimulatedExecution::Succeeded, SimulatedExecution::Failed];
                assert!(earlier.clone().all(|(_, state)| ended.contains(state)), "out of order");
                let wave = self.wave;
                let held = self.executions.iter_mut();
                let held = held.filter(|(number, state)| {
                    *number == wave && *state == SimulatedExecution::Held
                });
                let lifted = held.take(usize::try_from(count).expect("small"));
                assert_eq!(
                    lifted.map(|(_, state)| *state = SimulatedExecution::InFlight).count() as u64,
                    count
                );
            }
            WaveStep::EndWave => self.ended_at = Some(self.now),
            WaveStep::PassWave | WaveStep::NextWave => {
                self.wave += 1;
                self.ended_at = None;
            }
            WaveStep::Halt(halt) => return (step, Some(halt)),
        }
        (step, None)
    }

    /// Ends one execution in flight; false if there is none.
    fn end_one(&mut self, which: usize, is_failure: bool) -> bool {
        let in_flight: Vec<_> = (0..self.executions.len())
            .filter(|index| self.executions[*index].1 == SimulatedExecution::InFlight)
            .collect();
        let Some(index) = in_flight.get(which % in_flight.len().max(1)) else { return false };
        let end =
            if is_failure { SimulatedExecution::Failed } else { SimulatedExecution::Succeeded };
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
    fn a_rollout_keeps_its_wave_order_and_failure_limit_and_finishes(
        rollout in rollouts(),
        online in prop::collection::vec(any::<bool>(), 1..60),
        chances in prop::collection::vec((any::<usize>(), 0u8..4), 200),
    ) {
        let mut simulation = RolloutSimulation::new(rollout, &online);
        let all = simulation.executions.len() as u64;
        let limit = rollout.failure_limit(all);
        let largest_wave = rollout.plan(&online).placements.len() as u64;
        let mut chances = chances.into_iter().cycle();
        // Each execution starts and ends once; each wave ends, pauses and passes once.
        let mut halted = None;
        for _ in 0..20 * (all + 2) {
            let (step, halt) = simulation.advance();
            halted = halt;
            if halted.is_some() {
                break;
            }
            if step == WaveStep::Wait {
                let (which, chance) = chances.next().expect("the iterator is endless");
                if !simulation.end_one(which, chance == 0) {
                    break;
                }
            }
        }
        match (limit, rollout.counts_in_flight) {
            (Some(limit), true) => {
                // Executions in flight at the halt may fail as well.
                let worst = simulation.failures()
                    + simulation.count(|(_, state)| *state == SimulatedExecution::InFlight);
                prop_assert!(worst <= limit + 1, "{worst} of {limit}");
            }
            (Some(limit), false) => prop_assert!(simulation.failures() <= limit + largest_wave),
            (None, _) => prop_assert_eq!(halted, None),
        }
        if halted.is_none() {
            let open = [SimulatedExecution::Held, SimulatedExecution::InFlight];
            prop_assert_eq!(simulation.count(|(_, state)| open.contains(state)), 0, "stuck");
        }
    }
}

#[test]
fn with_a_limit_of_zero_executions_start_one_by_one_and_the_first_failure_halts() {
    let rollout = Rollout {
        wave_size: Amount::Count(3),
        pause_ms: 0,
        max_failures: Some(Amount::Count(0)),
        counts_in_flight: true,
        gate: None,
        offline: None,
    };
    let mut simulation = RolloutSimulation::new(rollout, &[true; 6]);
    assert_eq!(simulation.advance().0, WaveStep::Start(1));
    assert_eq!(simulation.advance().0, WaveStep::Wait);
    simulation.end_one(0, false);
    assert_eq!(simulation.advance().0, WaveStep::Start(1));
    simulation.end_one(0, true);
    assert_eq!(simulation.advance().1, Some(HaltReason::Failures { failures: 1, limit: 0 }));
    // Without counting executions in flight, the whole wave starts.
    let mut whole =
        RolloutSimulation::new(Rollout { counts_in_flight: false, ..rollout }, &[true; 6]);
    assert_eq!(whole.advance().0, WaveStep::Start(3));
}

#[test]
fn a_failure_above_the_limit_does_not_halt_when_nothing_is_left_to_start() {
    let rollout = Rollout {
        wave_size: Amount::Count(2),
        pause_ms: 0,
        max_failures: Some(Amount::Count(0)),
        counts_in_flight: false,
        gate: None,
        offline: None,
    };
    let mut simulation = RolloutSimulation::new(rollout, &[true; 2]);
    simulation.advance();
    simulation.end_one(0, true);
    assert_eq!(simulation.step(), WaveStep::Wait);
}
