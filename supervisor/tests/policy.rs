//! Property tests of the restart policy over arbitrary runs of an agent.

use std::time::{Duration, Instant};

use muster_protocol::program::backoff::Delays;
use muster_supervisor::policy::{
    Cause, Decision, IMMEDIATE_RESTART_WINDOW, MAX_IMMEDIATE_RESTARTS, ProcessExit, ReleaseRequest,
    RestartBackoff, RestartDelay, RestartHistory, decide,
};

use proptest::prelude::*;

const HEALTHY_AFTER: Duration = Duration::from_secs(60);
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// One run of an agent: how long it lasted and how it ended.
#[derive(Debug, Clone, Copy)]
struct Run {
    length: Duration,
    end: ProcessExit,
}

fn end() -> impl Strategy<Value = ProcessExit> {
    prop_oneof![
        3 => Just(ProcessExit::Exited(42)),
        2 => prop_oneof![Just(ProcessExit::Exited(43)), Just(ProcessExit::Exited(44))],
        2 => any::<i32>().prop_map(ProcessExit::Exited),
        1 => (1..65).prop_map(ProcessExit::Signalled),
        1 => Just(ProcessExit::NotStarted),
        1 => prop_oneof![Just(ProcessExit::Exited(0)), Just(ProcessExit::Exited(99))],
    ]
}

fn run() -> impl Strategy<Value = Run> {
    let length = prop_oneof![3 => 0u64..3_000, 1 => 0u64..59_999, 1 => 60_000u64..10_000_000];
    (length, end()).prop_map(|(ms, end)| Run { length: Duration::from_millis(ms), end })
}

/// The policy's decision about one run.
struct Step {
    run: Run,
    decision: Decision,
    delay: Duration,
    /// When the agent was restarted after the decision.
    started_at: Instant,
}

/// Simulates the supervisor over `runs`, until the first final exit.
fn live(runs: &[Run]) -> Vec<Step> {
    let mut now = Instant::now();
    let mut history = RestartHistory::new(HEALTHY_AFTER);
    let mut backoff = RestartBackoff::new(Delays::for_restart());
    let mut steps = Vec::new();
    for run in runs {
        if run.end != ProcessExit::NotStarted {
            history.record_start(now);
            now += run.length;
        }
        let decision = decide(run.end, &history, now);
        history.record_decision(decision, now);
        let Decision::Start { delay, healthy, .. } = decision else {
            steps.push(Step { run: *run, decision, delay: Duration::ZERO, started_at: now });
            return steps;
        };
        let delay = backoff.delay(delay, healthy);
        now += delay;
        steps.push(Step { run: *run, decision, delay, started_at: now });
    }
    steps
}

proptest! {
    #[test]
    fn exit_codes_0_and_99_are_always_final_and_no_others_are(runs in prop::collection::vec(run(), 1..60)) {
        let steps = live(&runs);
        for step in &steps {
            match step.run.end {
                ProcessExit::Exited(0) => prop_assert_eq!(step.decision, Decision::Stop),
                ProcessExit::Exited(99) => prop_assert_eq!(step.decision, Decision::Fatal),
                _ => {
                    let again = matches!(step.decision, Decision::Start { .. });
                    prop_assert!(again, "{:?}", step.decision);
                }
            }
        }
    }

    #[test]
    fn cause_depends_only_on_the_exit_code(run in run()) {
        let Decision::Start { cause, .. } = live(&[run])[0].decision else { return Ok(()) };
        prop_assert_eq!(cause, match run.end {
            ProcessExit::Exited(42) => Cause::RestartRequested,
            ProcessExit::Exited(43) => Cause::ReleaseRequested(ReleaseRequest::Desired),
            ProcessExit::Exited(44) => Cause::ReleaseRequested(ReleaseRequest::Reinstall),
            _ => Cause::Crash,
        });
    }

    #[test]
    fn every_delay_is_below_a_ceiling_that_doubles_and_resets_after_a_healthy_run(
        runs in prop::collection::vec(run(), 1..60),
    ) {
        let mut ceiling = Duration::from_secs(2);
        for step in live(&runs) {
            let Decision::Start { delay, healthy, .. } = step.decision else { break };
            let lasted = step.run.end != ProcessExit::NotStarted && step.run.length >= HEALTHY_AFTER;
            prop_assert_eq!(healthy, lasted);
            if healthy {
                ceiling = Duration::from_secs(2);
            }
            prop_assert!(step.delay <= ceiling, "{:?} over {ceiling:?}", step.delay);
            match delay {
                RestartDelay::Immediate => prop_assert_eq!(step.delay, Duration::ZERO),
                RestartDelay::Backoff => ceiling = (ceiling * 2).min(LONGEST_DELAY),
            }
        }
    }

    #[test]
    fn crash_always_waits_by_the_backoff(
        runs in prop::collection::vec(run(), 1..60),
    ) {
        for step in live(&runs) {
            if let Decision::Start { cause: Cause::Crash, delay, .. } = step.decision {
                prop_assert_eq!(delay, RestartDelay::Backoff);
            }
        }
    }

    #[test]
    fn no_time_window_contains_more_immediate_restarts_than_allowed(
        runs in prop::collection::vec(run(), 1..200),
    ) {
        let immediate: Vec<_> = live(&runs)
            .iter()
            .filter(|step| matches!(
                step.decision,
                // A healthy run resets the window and can't be frequent.
                Decision::Start { delay: RestartDelay::Immediate, healthy: false, .. }
            ))
            .map(|step| step.started_at)
            .collect();
        for group in immediate.windows(MAX_IMMEDIATE_RESTARTS + 1) {
            let took = *group.last().unwrap() - group[0];
            prop_assert!(took >= IMMEDIATE_RESTART_WINDOW, "{} starts in {took:?}", group.len());
        }
    }

    #[test]
    fn restart_loop_is_delayed_from_the_sixth_restart_until_a_healthy_run(extra in 1usize..40) {
        let quick = Run { length: Duration::from_millis(10), end: ProcessExit::Exited(42) };
        let mut runs = vec![quick; MAX_IMMEDIATE_RESTARTS + extra];
        runs.push(Run { length: HEALTHY_AFTER, end: ProcessExit::Exited(42) });
        let paces: Vec<_> = live(&runs).iter().map(|step| match step.decision {
            Decision::Start { delay, .. } => delay,
            _ => unreachable!("42 is never final"),
        }).collect();
        let mut expected = vec![RestartDelay::Immediate; MAX_IMMEDIATE_RESTARTS];
        expected.extend(vec![RestartDelay::Backoff; extra]);
        expected.push(RestartDelay::Immediate);
        prop_assert_eq!(paces, expected);
    }
}

#[test]
fn occasional_requested_restarts_are_always_immediate() {
    let run = Run { length: Duration::from_secs(3), end: ProcessExit::Exited(42) };
    for step in live(&vec![run; 100]) {
        assert_eq!(step.delay, Duration::ZERO);
    }
}
