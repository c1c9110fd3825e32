//! Injects the faults of a plan and records them: the checker must know what was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;
use uuid::Uuid;

use super::fleet::Fleet;
use super::plan::{FaultKind, PlannedFault};
use crate::wait::{pass, within};

/// Time limit for the executions that a fault waits for. Generous, for busy machines.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest time that a link is refused, silent or blocked.
const LONGEST_MS: u64 = 1_500;

/// The faults that were injected.
#[derive(Debug, Clone, Default)]
pub struct InjectedFaults {
    /// Faults that took effect, by kind.
    pub counts: BTreeMap<FaultKind, usize>,
    /// Executions whose shim was killed, or whose host lost power while it had them. Only these may
    /// be lost.
    pub may_be_lost: BTreeSet<Uuid>,
    /// The log of the faults, one line each.
    pub log: Vec<String>,
}

/// Injects one fault after another, until all are injected or `is_over` returns true.
pub async fn strike(
    fleet: &mut Fleet,
    planned_faults: &[PlannedFault],
    mut is_over: watch::Receiver<bool>,
) -> InjectedFaults {
    let mut injected = InjectedFaults::default();
    for strike in planned_faults {
        let start_log = fleet.start_log.clone();
        let moment = within(PATIENCE, "the moment of a blow", async || {
            let is_over = *is_over.borrow_and_update();
            (is_over || super::fleet::begun(&start_log) >= strike.begun).then_some(is_over)
        });
        if moment.await {
            break;
        }
        pass(Duration::from_millis(strike.after_ms)).await;
        let hit = carry_out(fleet, strike, &mut injected.may_be_lost).await;
        if let Some(what) = hit {
            *injected.counts.entry(strike.kind).or_default() += 1;
            let begun = fleet.begun();
            injected
                .log
                .push(format!("{begun} begun: {:?} host {}{what}", strike.kind, strike.host));
        }
    }
    injected
}

/// Describes a fault that took effect; `None` if there was nothing to hit.
async fn carry_out(
    fleet: &mut Fleet,
    strike: &PlannedFault,
    may_be_lost: &mut BTreeSet<Uuid>,
) -> Option<String> {
    let host = &mut fleet.hosts[strike.host];
    let for_a_while = Duration::from_millis(strike.number % LONGEST_MS);
    let mut what = String::new();
    match strike.kind {
        FaultKind::KillServer => block_in_place(|| {
            fleet.server.kill_9();
            fleet.server.resume();
        }),
        FaultKind::StopServer => block_in_place(|| {
            fleet.server.stop();
            fleet.server.resume();
        }),
        FaultKind::LoseStore => block_in_place(|| fleet.lose_store()),
        FaultKind::KillAgent => return host.kill_agent().then_some(what),
        FaultKind::KillSupervisor => block_in_place(|| {
            host.agent.kill_9();
            host.agent.resume();
        }),
        FaultKind::KillShim => {
            // If nothing runs on that host, another host is used.
            let mut hosts = fleet.hosts.iter().cycle().skip(strike.host).take(fleet.hosts.len());
            let id = hosts.find_map(|host| host.kill_shim(strike.number))?;
            may_be_lost.insert(id);
            what = format!(", the shim of {id}");
        }
        FaultKind::CutHostPower => {
            let held = block_in_place(|| host.lose_power());
            what = format!(", which had {} jobs", held.len());
            may_be_lost.extend(held);
        }
        FaultKind::CutLink => host.link.cut(),
        FaultKind::RefuseLink => {
            host.link.refuse(true);
            pass(for_a_while).await;
            host.link.refuse(false);
        }
        FaultKind::SilenceLink => {
            host.link.silence(true);
            pass(for_a_while).await;
            host.link.silence(false);
        }
        FaultKind::BlockUpgrades => {
            host.link.block_upgrades(true);
            pass(for_a_while).await;
            host.link.block_upgrades(false);
        }
    }
    Some(what)
}
