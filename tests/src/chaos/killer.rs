//! Carries out the blows of a plan, and remembers what it did: a judge has to know who was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;
use uuid::Uuid;

use super::fleet::Fleet;
use super::plan::{Kind, Strike};
use crate::wait::{pass, within};

/// Between two moments of a plan there is work; this is for machines that are busy otherwise.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest that a link is refused, silent or blocked.
const LONGEST_MS: u64 = 1_500;

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Deeds {
    /// Blows that hit, by kind.
    pub counts: BTreeMap<Kind, usize>,
    /// Executions whose shim was killed, or whose host lost its power while it had them: the only
    /// ones that may be lost.
    pub may_be_lost: BTreeSet<Uuid>,
    /// What happened when, a line each.
    pub log: Vec<String>,
}

/// Strikes blow after blow, until all are struck or `is_over` says that all work is done.
pub async fn strike(
    fleet: &mut Fleet,
    strikes: &[Strike],
    mut is_over: watch::Receiver<bool>,
) -> Deeds {
    let mut deeds = Deeds::default();
    for strike in strikes {
        let tally = fleet.tally.clone();
        let moment = within(PATIENCE, "the moment of a blow", async || {
            let is_over = *is_over.borrow_and_update();
            (is_over || super::fleet::begun(&tally) >= strike.begun).then_some(is_over)
        });
        if moment.await {
            break;
        }
        pass(Duration::from_millis(strike.after_ms)).await;
        let hit = carry_out(fleet, strike, &mut deeds.may_be_lost).await;
        if let Some(what) = hit {
            *deeds.counts.entry(strike.kind).or_default() += 1;
            let begun = fleet.begun();
            deeds.log.push(format!("{begun} begun: {:?} host {}{what}", strike.kind, strike.host));
        }
    }
    deeds
}

/// What there is to say of a blow that hit; `None` if there was nothing to hit.
async fn carry_out(
    fleet: &mut Fleet,
    strike: &Strike,
    may_be_lost: &mut BTreeSet<Uuid>,
) -> Option<String> {
    let host = &mut fleet.hosts[strike.host];
    let for_a_while = Duration::from_millis(strike.number % LONGEST_MS);
    let mut what = String::new();
    match strike.kind {
        Kind::KillServer => block_in_place(|| {
            fleet.server.kill_9();
            fleet.server.resume();
        }),
        Kind::StopServer => block_in_place(|| {
            fleet.server.stop();
            fleet.server.resume();
        }),
        Kind::LoseStore => block_in_place(|| fleet.lose_store()),
        Kind::KillAgent => return host.kill_agent().then_some(what),
        Kind::KillSupervisor => block_in_place(|| {
            host.agent.kill_9();
            host.agent.resume();
        }),
        Kind::KillShim => {
            // If nothing runs on that host, another will do.
            let mut hosts = fleet.hosts.iter().cycle().skip(strike.host).take(fleet.hosts.len());
            let id = hosts.find_map(|host| host.kill_shim(strike.number))?;
            may_be_lost.insert(id);
            what = format!(", the shim of {id}");
        }
        Kind::CutHostPower => {
            let held = block_in_place(|| host.lose_power());
            what = format!(", which had {} jobs", held.len());
            may_be_lost.extend(held);
        }
        Kind::CutLink => host.link.cut(),
        Kind::RefuseLink => {
            host.link.refuse(true);
            pass(for_a_while).await;
            host.link.refuse(false);
        }
        Kind::SilenceLink => {
            host.link.silence(true);
            pass(for_a_while).await;
            host.link.silence(false);
        }
        Kind::BlockUpgrades => {
            host.link.block_upgrades(true);
            pass(for_a_while).await;
            host.link.block_upgrades(false);
        }
    }
    Some(what)
}
