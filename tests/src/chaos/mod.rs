//! Chaos: real programs, real work, and a killer that kills any of them at any moment; then a judge
//! who compares what was promised with what there is.
//!
//! A run is made from a seed: `plan` says what is asked and what is done, `workload` asks, `killer`
//! does, `trial` and `judge` look at what came of it. It knows the programs only from outside, but
//! for `MUSTER_FAULT`, by which debug builds can be made to break a promise: a judge who never finds
//! anything proves nothing.

mod dice;
mod disk;
mod fleet;
mod inspection;
mod judge;
mod killer;
mod plan;
mod print;
mod settings;
mod trial;
mod verdict;
mod workload;

use tokio::sync::watch;

pub use disk::Disk;
pub use judge::{Promise, Violation};
pub use plan::{Kind, Plan, Shape};
pub use print::Print;
pub use settings::{Settings, Store};
pub use verdict::{Figures, Verdict, kept};

/// What the values of all secret parameters begin with.
const SECRET: &str = "chaos-s3cret-";

/// Makes one run, from the start of everything to the judgement. Needs root, and a runtime with
/// several threads.
pub async fn run(settings: &Settings) -> Verdict {
    let plan = Plan::of(settings.seed, &settings.shape);
    let mut fleet = fleet::Fleet::start(settings).await;
    let agents = fleet.hosts.iter().map(|host| host.agent_id.clone()).collect();
    let tally = fleet.tally.clone();
    let caller = workload::Caller::new(fleet.api.clone(), settings, agents, &tally);
    let over = watch::Sender::new(false);
    let asking = async {
        let asked = caller.ask(&plan.submissions).await;
        over.send_replace(true);
        asked
    };
    let striking = killer::strike(&mut fleet, &plan.strikes, over.subscribe());
    let (asked, deeds) = tokio::join!(asking, striking);
    fleet.server.ready().await;
    let findings = trial::judge_all(&fleet, &plan, &asked, &deeds).await;
    let verdict = Verdict::new(settings, findings, deeds);
    if !verdict.violations.is_empty() {
        verdict::keep_logs(&fleet, &verdict);
    }
    verdict
}
