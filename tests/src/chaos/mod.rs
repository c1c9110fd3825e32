//! Chaos: real programs do real work while faults are injected at random times; then a checker
//! compares the result with the guarantees.
//!
//! A run is made from a seed. `plan` lists its submissions and its faults, `workload` submits,
//! `fault_injector` injects, `evaluation` and `checker` examine the result. The programs are used
//! only from outside, except for `MUSTER_FAULT`, which makes a debug build break a guarantee: a
//! checker that never finds a violation proves nothing.

mod checker;
mod disk;
mod evaluation;
mod fault_injector;
mod fleet;
mod inspection;
mod plan;
mod print;
mod random;
mod report;
mod settings;
mod workload;

use tokio::sync::watch;

pub use checker::{Promise, Violation};
pub use disk::Disk;
pub use plan::{FaultKind, Plan, Shape};
pub use print::Print;
pub use report::{ChaosReport, Statistics, kept};
pub use settings::{ChaosSettings, Store};

/// Start of the values of all secret parameters.
const SECRET: &str = "chaos-s3cret-";

/// Executes one run, from the start of the fleet to the report. Needs root, and a runtime with
/// several threads.
pub async fn run(settings: &ChaosSettings) -> ChaosReport {
    let plan = Plan::of(settings.seed, &settings.shape);
    let mut fleet = fleet::Fleet::start(settings).await;
    let agents = fleet.hosts.iter().map(|host| host.agent_id.clone()).collect();
    let start_log = fleet.start_log.clone();
    let caller = workload::Caller::new(fleet.api.clone(), settings, agents, &start_log);
    let over = watch::Sender::new(false);
    let asking = async {
        let observations = caller.ask(&plan.submissions).await;
        over.send_replace(true);
        observations
    };
    let striking = fault_injector::strike(&mut fleet, &plan.planned_faults, over.subscribe());
    let (observations, injected) = tokio::join!(asking, striking);
    fleet.server.ready().await;
    let findings = evaluation::check_all(&fleet, &plan, &observations, &injected).await;
    let report = ChaosReport::new(settings, findings, injected);
    if !report.violations.is_empty() {
        report::keep_logs(&fleet, &report);
    }
    report
}
