//! The restart policy over arbitrary lives of an agent.

use std::time::{Duration, Instant};

use muster_protocol::backoff::Delays;
use muster_supervisor::policy::{
    Cause, Decision, End, Fetch, History, PLANNED_AT_ONCE, PLANNED_WINDOW, Pace, Pacer, decide,
};

use proptest::prelude::*;

const HEALTHY_AFTER: Duration = Duration::from_secs(60);
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// One run of an agent: how long it lasted and how it ended.
#[derive(Debug, Clone, Copy)]
struct Run {
    length: Duration,
    end: End,
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Exited(42)),
        2 => prop_oneof![Just(End::Exited(43)), Just(End::Exited(44))],
        2 => any::<i32>().prop_map(End::Exited),
        1 => (1..65).prop_map(End::Signalled),
        1 => Just(End::NotStarted),
        1 => prop_oneof![Just(End::Exited(0)), Just(End::Exited(99))],
    ]
}

fn run() -> impl Strategy<Value = Run> {
    let length = prop_oneof![3 => 0u64..3_000, 1 => 0u64..59_999, 1 => 60_000u64..10_000_000];
    (length, end()).prop_map(|(ms, end)| Run { length: Duration::from_millis(ms), end })
}

/// What the policy made of one run.
struct Step {
    run: Run,
    decision: Decision,
    delay: Duration,
    /// Of the start that followed the decision.
    started_at: Instant,
}

/// Lives through `runs` as the supervisor would, until the first that is final.
fn live(runs: &[Run]) -> Vec<Step> {
    let mut now = Instant::now();
    let mut history = History::new(HEALTHY_AFTER);
    let mut pacer = Pacer::new(Delays::for_restart());
    let mut steps = Vec::new();
    for run in runs {
        if run.end != End::NotStarted {
            history.record_start(now);
            now += run.length;
        }
        let decision = decide(run.end, &history, now);
        history.record_decision(decision, now);
        let Decision::Start { pace, healthy, .. } = decision else {
            steps.push(Step { run: *run, decision, delay: Duration::ZERO, started_at: now });
            return steps;
        };
        let delay = pacer.delay(pace, healthy);
        now += delay;
        steps.push(Step { run: *run, decision, delay, started_at: now });
    }
    steps
}

proptest! {
    #[test]
    fn only_0_and_99_are_final_and_they_always_are(runs in prop::collection::vec(run(), 1..60)) {
        let steps = live(&runs);
        for step in &steps {
            match step.run.end {
                End::Exited(0) => prop_assert_eq!(step.decision, Decision::Stop),
                End::Exited(99) => prop_assert_eq!(step.decision, Decision::Fatal),
                _ => {
                    let again = matches!(step.decision, Decision::Start { .. });
                    prop_assert!(again, "{:?}", step.decision);
                }
            }
        }
    }

    #[test]
    fn cause_follows_from_the_code_alone(run in run()) {
        let Decision::Start { cause, .. } = live(&[run])[0].decision else { return Ok(()) };
        prop_assert_eq!(cause, match run.end {
            End::Exited(42) => Cause::Asked,
            End::Exited(43) => Cause::Release(Fetch::Wanted),
            End::Exited(44) => Cause::Release(Fetch::CurrentAfresh),
            _ => Cause::Crash,
        });
    }

    #[test]
    fn every_delay_stays_below_a_ceiling_that_doubles_and_restarts_after_health(
        runs in prop::collection::vec(run(), 1..60),
    ) {
        let mut ceiling = Duration::from_secs(2);
        for step in live(&runs) {
            let Decision::Start { pace, healthy, .. } = step.decision else { break };
            let lasted = step.run.end != End::NotStarted && step.run.length >= HEALTHY_AFTER;
            prop_assert_eq!(healthy, lasted);
            if healthy {
                ceiling = Duration::from_secs(2);
            }
            prop_assert!(step.delay <= ceiling, "{:?} over {ceiling:?}", step.delay);
            match pace {
                Pace::Now => prop_assert_eq!(step.delay, Duration::ZERO),
                Pace::Backoff => ceiling = (ceiling * 2).min(LONGEST_DELAY),
            }
        }
    }

    #[test]
    fn crash_always_waits_by_the_backoff(
        runs in prop::collection::vec(run(), 1..60),
    ) {
        for step in live(&runs) {
            if let Decision::Start { cause: Cause::Crash, pace, .. } = step.decision {
                prop_assert_eq!(pace, Pace::Backoff);
            }
        }
    }

    #[test]
    fn no_window_holds_more_immediate_starts_than_allowed(
        runs in prop::collection::vec(run(), 1..200),
    ) {
        let immediate: Vec<_> = live(&runs)
            .iter()
            .filter(|step| matches!(
                step.decision,
                // A healthy run in between makes a new beginning and can't be frequent.
                Decision::Start { pace: Pace::Now, healthy: false, .. }
            ))
            .map(|step| step.started_at)
            .collect();
        for group in immediate.windows(PLANNED_AT_ONCE + 1) {
            let took = *group.last().unwrap() - group[0];
            prop_assert!(took >= PLANNED_WINDOW, "{} starts in {took:?}", group.len());
        }
    }

    #[test]
    fn restart_loop_is_slow_from_the_sixth_on_until_a_healthy_run(extra in 1usize..40) {
        let quick = Run { length: Duration::from_millis(10), end: End::Exited(42) };
        let mut runs = vec![quick; PLANNED_AT_ONCE + extra];
        runs.push(Run { length: HEALTHY_AFTER, end: End::Exited(42) });
        let paces: Vec<_> = live(&runs).iter().map(|step| match step.decision {
            Decision::Start { pace, .. } => pace,
            _ => unreachable!("42 is never final"),
        }).collect();
        let mut expected = vec![Pace::Now; PLANNED_AT_ONCE];
        expected.extend(vec![Pace::Backoff; extra]);
        expected.push(Pace::Now);
        prop_assert_eq!(paces, expected);
    }
}

#[test]
fn restarts_that_are_asked_for_now_and_then_are_always_immediate() {
    let run = Run { length: Duration::from_secs(3), end: End::Exited(42) };
    for step in live(&vec![run; 100]) {
        assert_eq!(step.delay, Duration::ZERO);
    }
}
