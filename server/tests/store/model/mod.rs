//! The writer against a model: any operations of any session, one by one or all at
//! once, it does what a table in memory does that takes one operation after the other.

mod reference;
mod simulation;
mod step;

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::{Builder, Runtime};

use self::simulation::Simulation;
use self::step::{Step, step};
use crate::fixture::Fixture;

/// Operations that are queued before the writer runs, so that they share a transaction.
type StepBatch = Vec<Step>;

fn plan() -> impl Strategy<Value = Vec<StepBatch>> {
    let alone = step().prop_map(|step| vec![step]);
    let together = prop::collection::vec(step(), 2..7);
    prop::collection::vec(prop_oneof![alone, together], 1..24)
}

/// One worker: it queues a whole batch before it can run the writer.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn keeps_to_the_model(runtime: &Runtime, fixture: Fixture, cases: u32) {
    let fixture = Arc::new(fixture);
    let config =
        Config { cases, max_shrink_iters: 400, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&plan(), |plan| {
        let fixture = Arc::clone(&fixture);
        let case = runtime.spawn(async move {
            let mut simulation = Simulation::new(&fixture).await;
            for batch in &plan {
                simulation.take(batch).await;
            }
        });
        runtime.block_on(case).map_err(|panic| TestCaseError::fail(panic.to_string()))
    });
    drop(runtime.enter());
    // Fixtures end their database by blocking.
    let fixture = Arc::try_unwrap(fixture).map_err(|_| "shared").expect("the last");
    runtime.block_on(async move { drop(fixture) });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn in_any_order_and_in_any_batch_sqlite_does_what_the_model_does() {
    let runtime = runtime();
    let fixture = runtime.block_on(Fixture::sqlite());
    keeps_to_the_model(&runtime, fixture, 96);
}

#[test]
fn in_any_order_and_in_any_batch_postgres_does_what_the_model_does() {
    let runtime = runtime();
    let fixture = runtime.block_on(Fixture::postgres());
    keeps_to_the_model(&runtime, fixture, 48);
}
