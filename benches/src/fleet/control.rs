//! Orders on standard input, replies on standard output: `connect` and `counts`, one line of JSON
//! each. A fleet that is too large for one process passes its orders on to child processes.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;

use super::fleet_state::{FleetState, Plan};
use super::{MAX_SOCKETS, agent};
use crate::process::{FleetCounts, FleetHandle, Round};

/// Controls the agents of this process, until standard input ends.
pub async fn serve_alone(plan: Plan) -> Result<()> {
    let (first, agents) = (plan.first, plan.agents);
    let state = Arc::new(FleetState::new(plan)?);
    for index in first..first + agents {
        tokio::spawn(agent::run(index, Arc::clone(&state), state.rounds()));
    }
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        match order.as_str() {
            "connect" => say(&state.connect().await)?,
            "counts" => say(&state.counts())?,
            other => bail!("unknown order `{other}`"),
        }
    }
    Ok(())
}

/// Starts and controls as many processes as the fleet needs.
pub fn serve_shared(plan: &Plan) -> Result<()> {
    let folder = std::env::current_dir()?;
    let mut shares = Vec::new();
    let mut first = plan.first;
    let end = plan.first + plan.agents;
    while first < end {
        let agents = MAX_SOCKETS.min(end - first);
        let part = Plan { first, agents, ..plan.clone() };
        shares.push(FleetHandle::start_part(&folder, &part)?);
        first += agents;
    }
    for order in std::io::stdin().lock().lines() {
        match order?.as_str() {
            "connect" => {
                let mut all = Round { live: 0, failed: 0, elapsed_ms: 0.0 };
                for share in &mut shares {
                    share.begin("connect")?;
                }
                for share in &mut shares {
                    let round: Round = share.finish()?;
                    all.live += round.live;
                    all.failed += round.failed;
                    all.elapsed_ms = all.elapsed_ms.max(round.elapsed_ms);
                }
                say(&all)?;
            }
            "counts" => {
                let mut all = FleetCounts::default();
                for share in &mut shares {
                    all.add(share.counts()?);
                }
                say(&all)?;
            }
            other => bail!("unknown order `{other}`"),
        }
    }
    Ok(())
}

/// Lines of standard input, read on a separate thread so that agents don't wait for them.
fn orders() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
        // Also in the middle of a round, because there is no one left to read its result.
        std::process::exit(0);
    });
    receiver
}

fn say(answer: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?).context("answer")?;
    Ok(out.flush()?)
}
