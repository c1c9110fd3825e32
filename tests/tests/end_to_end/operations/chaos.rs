//! The chaos suite: processes are killed, connections cut and power lost in any order, and every
//! guarantee holds. If a guarantee is broken on purpose, the suite finds it.

use muster_tests::chaos::{ChaosReport, ChaosSettings, FaultKind, Promise, Shape, Store, run};

/// Fixed, so that every machine runs the same plan at least once.
const SEED: u64 = 20_261_121;
/// Number of runs within which a broken guarantee must be found.
const ROUNDS: u64 = 5;

/// Another plan each time. The seed is printed, and this variable selects it again.
fn fresh_seed() -> u64 {
    chosen_seed().unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0))
}

fn chosen_seed() -> Option<u64> {
    let seed = std::env::var("MUSTER_CHAOS_SEED").ok()?;
    Some(seed.parse().expect("MUSTER_CHAOS_SEED is a number"))
}

async fn holds(seed: u64, store: Store) {
    println!("to replay: MUSTER_CHAOS_SEED={seed} cargo nextest run -p muster-tests chaos::fresh");
    let report = run(&ChaosSettings::short(seed, store)).await;
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    let states = &report.statistics.states;
    assert!(states.get("succeeded").is_some_and(|count| *count > 20), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_plan_breaks_no_promise_on_sqlite() {
    holds(SEED, Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_plan_breaks_no_promise_on_postgres() {
    holds(SEED, Store::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_plan_breaks_no_promise_on_sqlite() {
    holds(fresh_seed(), Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_plan_breaks_no_promise_on_postgres() {
    holds(fresh_seed(), Store::Postgres).await;
}

/// A run with only these faults, and with executions that take a moment.
fn aimed(seed: u64, faults: &[(FaultKind, u64)], stay_ms: std::ops::Range<u64>) -> ChaosSettings {
    let settings = ChaosSettings::short(seed, Store::Sqlite);
    let shape = Shape {
        hosts: 2,
        submissions: 40,
        planned_faults: 8,
        faults: faults.into(),
        stay_ms,
        backlog: 4,
    };
    ChaosSettings { shape, ..settings }
}

/// Repeats runs until one reports that this guarantee is broken.
async fn is_found(promise: Promise, settings: impl Fn(u64) -> ChaosSettings) -> ChaosReport {
    let first = chosen_seed().unwrap_or(SEED);
    for round in 0..ROUNDS {
        let report = run(&settings(first + round)).await;
        println!("{report}");
        if report.has(promise) {
            return report;
        }
    }
    panic!("{promise:?} was broken in {ROUNDS} runs, and no check noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_that_is_not_synced_is_found_when_the_power_fails() {
    is_found(Promise::StartsOnce, |seed| ChaosSettings {
        agent_fault: Some("unsynced_start".into()),
        ..aimed(seed, &[(FaultKind::CutHostPower, 1)], 500..3_000)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgement_before_the_commit_is_found_when_the_server_is_killed() {
    is_found(Promise::LostHasAReason, |seed| ChaosSettings {
        server_fault: Some("early_ack".into()),
        ..aimed(seed, &[(FaultKind::KillServer, 1)], 0..300)
    })
    .await;
}

fn delivered_twice(seed: u64) -> ChaosSettings {
    let server_fault = Some("repeated_delivery".into());
    ChaosSettings { server_fault, ..aimed(seed, &[], 0..300) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_that_is_delivered_twice_starts_once() {
    let report = run(&delivered_twice(SEED)).await;
    assert!(report.violations.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_forgets_what_it_was_sent_is_found() {
    is_found(Promise::StartsOnce, |seed| ChaosSettings {
        agent_fault: Some("forgotten_commands".into()),
        ..delivered_twice(seed)
    })
    .await;
}
