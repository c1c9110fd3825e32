//! The result of a run: reads every execution from the server, and checks each one and all of them
//! together.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::checker::{Execution, Promise, Violation, check};
use super::fault_injector::InjectedFaults;
use super::fleet::Fleet;
use super::inspection::leftovers;
use super::plan::{Plan, Submission, Target};
use super::workload::{Observations, ended};
use crate::clients::api::Api;
use crate::json::JsonFields as _;

/// The findings.
#[derive(Debug, Default)]
pub struct Findings {
    /// Number of executions by final state.
    pub states: BTreeMap<String, usize>,
    pub jobs: usize,
    pub violations: Vec<Violation>,
}

/// Checks everything.
pub async fn check_all(
    fleet: &Fleet,
    plan: &Plan,
    observations: &Observations,
    injected: &InjectedFaults,
) -> Findings {
    let mut findings = Findings::default();
    for answer in &observations.odd_answers {
        findings.violations.push(Violation::new(Promise::AnswersAsSaid, answer));
    }
    let commands = listed(&fleet.api, "/api/commands").await;
    let start_log = start_log(fleet);
    let mut known = BTreeSet::new();
    let mut executions_of: BTreeMap<Uuid, Vec<&Value>> = BTreeMap::new();
    for command in &commands {
        let of = id_in(command, "job_id").or(id_in(command, "id")).unwrap_or_default();
        executions_of.entry(of).or_default().push(command);
        known.extend(id_in(command, "id"));
        let state = command["state"].as_str().unwrap_or_default().to_owned();
        *findings.states.entry(state).or_default() += 1;
    }
    for (submission, accepted) in plan.submissions.iter().zip(&observations.accepted) {
        findings.jobs += usize::from(!matches!(submission.place, Target::Host(_)));
        let executions = executions_of.remove(accepted).unwrap_or_default();
        findings.violations.extend(placed(fleet, submission, &executions));
        for command in executions {
            let Some(id) = id_in(command, "id") else { continue };
            let execution = Execution {
                id,
                command,
                submission,
                begun: start_log.get(&id).copied().unwrap_or_default(),
                may_be_lost: injected.may_be_lost.contains(&id),
                output: output(&fleet.api, id).await,
            };
            findings.violations.extend(check(&execution));
        }
    }
    for command in executions_of.into_values().flatten() {
        let what = format!("{command} was not submitted");
        findings.violations.push(Violation::new(Promise::SubmittedOnce, what));
    }
    for (id, times) in start_log.iter().filter(|(id, _)| !known.contains(id)) {
        let what = format!("{id}, of which the server knows nothing, started {times} times");
        findings.violations.push(Violation::new(Promise::StartIsKnown, what));
    }
    findings.violations.extend(changed(&commands, observations));
    findings.violations.extend(leftovers(fleet, &known));
    findings
}

/// Each submission has created one execution for each agent of its target.
fn placed(fleet: &Fleet, submission: &Submission, executions: &[&Value]) -> Option<Violation> {
    let agent = |host: &usize| fleet.hosts[*host].agent_id.as_str();
    let mut meant: Vec<&str> = match &submission.place {
        Target::Host(host) => vec![agent(host)],
        Target::Hosts(hosts) => hosts.iter().map(agent).collect(),
        Target::All => fleet.hosts.iter().map(|host| host.agent_id.as_str()).collect(),
    };
    let mut found: Vec<_> =
        executions.iter().filter_map(|command| command["agent_id"].as_str()).collect();
    meant.sort_unstable();
    found.sort_unstable();
    let what = || format!("{submission:?} is on {found:?} instead of {meant:?}");
    (found != meant).then(|| Violation::new(Promise::SubmittedOnce, what()))
}

/// A command that had ended when it was queried has not changed since.
fn changed(commands: &[Value], observations: &Observations) -> Vec<Violation> {
    let now: BTreeMap<_, _> = commands.iter().filter_map(ended).collect();
    let changed = observations.seen.iter().filter(|(id, seen)| now.get(id) != Some(seen));
    changed
        .map(|(id, seen)| {
            let what = format!("{id} had ended as {seen:?}, and now as {:?}", now.get(id));
            Violation::new(Promise::EndsOnce, what)
        })
        .collect()
}

/// How often each execution has started.
fn start_log(fleet: &Fleet) -> BTreeMap<Uuid, usize> {
    let mut start_log = BTreeMap::new();
    let text = std::fs::read_to_string(&fleet.start_log).expect("read the start_log");
    for line in text.lines() {
        *start_log.entry(line.parse().expect("an id")).or_default() += 1;
    }
    start_log
}

/// Every item of a list.
async fn listed(api: &Api, path: &str) -> Vec<Value> {
    let mut items = vec![];
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("{path}?limit=100{cursor}")).await.expect(200);
        items.extend(page.list("items").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// stdout, stderr, and both.
async fn output(api: &Api, id: Uuid) -> [Vec<u8>; 3] {
    let part = async |stream: &str| {
        let path = format!("/api/commands/{id}/output{stream}");
        let answer = api.try_send(Method::GET, &path, &[], None).await.expect("reach the server");
        // 416: there is no output.
        if matches!(answer.status, 200 | 206) { answer.bytes } else { vec![] }
    };
    let (stdout, stderr, both) =
        tokio::join!(part("?stream=stdout"), part("?stream=stderr"), part(""));
    [stdout, stderr, both]
}

fn id_in(command: &Value, field: &str) -> Option<Uuid> {
    command[field].as_str()?.parse().ok()
}
