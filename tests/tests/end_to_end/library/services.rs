//! Services, with real servers and agents.

mod lifetime;
mod requests;
mod rotation;

use std::path::{Path, PathBuf};

use muster_tests::{
    ALL, Agent, AgentOptions, FakeAgent, Fixture, JsonFields as _, eventually, eventually_shown,
    file, on_both_databases, tar_zst, write_policy,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{agent_with_policy, output};

on_both_databases!(
    a_service_that_is_killed_comes_back_as_another_execution,
    a_service_is_stopped_started_and_restarted_by_request,
    a_report_of_a_hostile_agent_is_bounded_and_its_own,
    another_tenant_controls_no_service,
    a_process_that_left_its_session_and_environment_ends_with_its_run,
);

/// Writes its process id, and runs until it is ended.
const PROGRAM: &str =
    "echo $$ >>\"$LOG/pids\"\necho \"started $VERSION\"\nexec tail -f /dev/null\n";

/// A check that may leave a process behind.
const HEALTH: &str = "if test -e \"$LOG/leave\"; then sleep 1000 & echo $! >>\"$LOG/left\"; fi\n\
    test ! -e \"$LOG/sick\"\n";

/// A host with a service.
struct Hosted {
    agent: Agent,
    agent_id: String,
    /// Of the assignment.
    id: String,
    log: PathBuf,
}

fn archive(version: &str, program: &str, settings: &str) -> Vec<u8> {
    let description = format!(
        "name = \"kept\"\nversion = \"{version}\"\nkind = \"service\"\nexecutor = \"sh\"\n\
         entry = \"run.sh\"\n[[parameters]]\nname = \"LOG\"\n[[parameters]]\n\
         name = \"VERSION\"\ndefault = \"{version}\"\n[service]\n{settings}\n"
    );
    tar_zst(&[
        file("muster.toml", &description),
        file("run.sh", program),
        file("health.sh", HEALTH),
    ])
}

async fn upload(fixture: &Fixture, archive: Vec<u8>) {
    fixture.api.upload("/api/packages", archive).await.expect(201);
}

/// Assigns the package to all agents, and returns the id of the assignment.
async fn assign(fixture: &Fixture, log: &Path) -> String {
    let body = json!({"name": "kept", "script": "package:kept",
        "target": {"expression": "all"}, "parameters": {"LOG": log}});
    fixture.api.post("/api/assignments", body).await.expect(201).id().to_owned()
}

async fn hosted(fixture: &Fixture, program: &str, settings: &str) -> Hosted {
    let (agent, agent_id) = agent_with_policy(fixture, json!({"allow": "library"})).await;
    let log = fixture.test_dir.folder("log");
    upload(fixture, archive("1", program, settings)).await;
    let id = assign(fixture, &log).await;
    Hosted { agent, agent_id, id, log }
}

/// Waits until the only agent reports a service like this, and returns the report.
async fn reported(
    fixture: &Fixture,
    id: &str,
    what: &str,
    is_it: impl Fn(&Value) -> bool,
) -> Value {
    let path = format!("/api/assignments/{id}/agents");
    eventually_shown(what, async || {
        let page = fixture.api.get(&path).await.expect(200);
        let agent = page.list("items").first().cloned().unwrap_or_default();
        if is_it(&agent["service"]) { Ok(agent["service"].clone()) } else { Err(page) }
    })
    .await
}

async fn in_state(fixture: &Fixture, id: &str, state: &str) -> Value {
    reported(fixture, id, state, |service| service["state"] == state).await
}

fn process_ids(log: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(log.join("pids")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Waits until the service was started this often, and returns its process.
async fn started(log: &Path, times: usize) -> i32 {
    eventually(&format!("start {times}"), async || {
        let ids = process_ids(log);
        assert!(ids.len() <= times, "too many starts: {ids:?}");
        (ids.len() == times).then(|| ids[times - 1])
    })
    .await
}

/// False for a process that has ended and whose parent has not noticed yet.
fn is_alive(process: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| {
        line.starts_with("State:") && !line.contains(" (zombie)") && !line.contains(" (dead)")
    })
}

async fn gone(process: i32) {
    eventually("the process is gone", async || (!is_alive(process)).then_some(())).await;
}

/// Ends the service on its host.
async fn remove(fixture: &Fixture, agent: &Agent, id: &str) {
    fixture.api.delete(&format!("/api/assignments/{id}")).await.expect(204);
    eventually("nothing of it runs", async || agent.shim_ids().is_empty().then_some(())).await;
}

async fn control(fixture: &Fixture, id: &str, action: &str) {
    let path = format!("/api/services/{id}/{action}");
    let answer = fixture.api.post(&path, json!({})).await.expect(202);
    assert_eq!(answer["agent_count"], 1);
}

async fn a_service_that_is_killed_comes_back_as_another_execution(fixture: Fixture) {
    let Hosted { agent, agent_id, id, log } = hosted(&fixture, PROGRAM, "").await;
    let first = started(&log, 1).await;
    let running = in_state(&fixture, &id, "running").await;
    let run = fixture.api.in_state(running.text("run_id"), "running").await;
    assert_eq!(run["agent_id"], agent_id.as_str());
    let page = fixture.api.get("/api/executions?trigger=service").await.expect(200);
    assert_eq!(page.list("items")[0].id(), running.text("run_id"));
    assert_eq!(run["data"]["service"]["assignment_id"], id.as_str(), "{run}");
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("killed");
    let second = started(&log, 2).await;
    assert_ne!(first, second);
    let again = reported(&fixture, &id, "restarted", |service| {
        service["state"] == "running" && service["restart_count"] == 1
    })
    .await;
    assert_ne!(again["run_id"], running["run_id"]);
    assert_eq!(
        (&again["last_outcome"], &again["last_error_code"]),
        (&json!("failed"), &json!("signal"))
    );
    let ended = fixture.api.finished(running.text("run_id")).await;
    assert_eq!((&ended["state"], &ended["error_code"]), (&json!("failed"), &json!("signal")));
    assert_eq!(output(&fixture, running.text("run_id")).await, "started 1\n");
    let list = fixture.api.get("/api/services").await.expect(200);
    assert_eq!(list.list("items")[0]["state_counts"], json!({"running": 1}), "{list}");
    // Without its assignment nothing of it is left.
    remove(&fixture, &agent, &id).await;
    gone(second).await;
    let ended = fixture.api.finished(again.text("run_id")).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert_eq!(process_ids(&log).len(), 2);
    let services = agent.state_dir().join("services");
    eventually("no state of it", async || {
        std::fs::read_dir(&services).is_ok_and(|files| files.count() == 0).then_some(())
    })
    .await;
}

async fn a_service_is_stopped_started_and_restarted_by_request(fixture: Fixture) {
    let Hosted { mut agent, id, log, .. } = hosted(&fixture, PROGRAM, "restart = \"never\"").await;
    let first = started(&log, 1).await;
    in_state(&fixture, &id, "running").await;
    control(&fixture, &id, "restart").await;
    let second = started(&log, 2).await;
    gone(first).await;
    in_state(&fixture, &id, "running").await;
    control(&fixture, &id, "stop").await;
    in_state(&fixture, &id, "stopped").await;
    assert!(!is_alive(second));
    // It stays stopped, also for another process of the agent.
    agent.kill_9();
    agent.resume();
    in_state(&fixture, &id, "stopped").await;
    assert_eq!(process_ids(&log).len(), 2);
    // What is asked while the host is away follows when it is back.
    agent.kill_9();
    control(&fixture, &id, "start").await;
    agent.resume();
    let third = started(&log, 3).await;
    // A new version replaces the run.
    upload(&fixture, archive("2", PROGRAM, "")).await;
    let path = format!("/api/assignments/{id}");
    fixture.api.patch(&path, json!({"script": "package:kept@2"})).await.expect(200);
    started(&log, 4).await;
    gone(third).await;
    let running = in_state(&fixture, &id, "running").await;
    let run = running.text("run_id");
    fixture.api.output_reaches(run, 10).await;
    assert_eq!(output(&fixture, run).await, "started 2\n");
    let audit = fixture.api.get("/api/audit?limit=500").await.expect(200);
    for action in ["service.restart", "service.stop", "service.start"] {
        let count = audit.list("items").iter().filter(|entry| entry["action"] == action).count();
        assert_eq!(count, 1, "{action}");
    }
    remove(&fixture, &agent, &id).await;
}

async fn a_process_that_left_its_session_and_environment_ends_with_its_run(fixture: Fixture) {
    let program = "echo $$ >>\"$LOG/pids\"\nLOG=\"$LOG\"\n\
         setsid env -i sh -c 'echo $$ >>\"$1/left\"; exec sleep 1000 >/dev/null 2>&1' sh \"$LOG\" &\n\
         exec tail -f /dev/null\n";
    let Hosted { agent, id, log, .. } = hosted(&fixture, program, "").await;
    let first = started(&log, 1).await;
    let left = eventually("the process has left", async || {
        std::fs::read_to_string(log.join("left")).ok()?.trim().parse::<i32>().ok()
    })
    .await;
    // The process that supervises the run is the parent of the program.
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    let shim: i32 = parent.trim().parse().expect("a number");
    kill(Pid::from_raw(shim), Signal::SIGKILL).expect("killed");
    started(&log, 2).await;
    assert!(!is_alive(first) && !is_alive(left), "two runs at once");
    remove(&fixture, &agent, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_ends_before_its_agent_exits_for_good() {
    let fixture = Fixture::on_sqlite().await;
    write_policy(&fixture.test_dir.folder("agent"), &json!({"allow": "library"}).to_string());
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let options = AgentOptions::named("agent").supervised();
    let mut agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    fixture.online(&key_id).await;
    let log = fixture.test_dir.folder("log");
    upload(&fixture, archive("1", PROGRAM, "")).await;
    assign(&fixture, &log).await;
    let process = started(&log, 1).await;
    fixture.api.delete(&format!("/api/agents/keys/{key_id}")).await.expect(204);
    assert_eq!(agent.process().ended().await.code(), Some(99));
    assert!(!is_alive(process), "it runs on, and no agent watches it");
    let assigned = std::fs::read_to_string(agent.state_dir().join("assignments.json"));
    assert!(assigned.expect("the list").contains("\"items\":[]"));
}

async fn another_tenant_controls_no_service(fixture: Fixture) {
    let log = fixture.test_dir.folder("log");
    upload(&fixture, archive("1", PROGRAM, "")).await;
    let id = assign(&fixture, &log).await;
    let other = fixture.other_tenant().await;
    assert_eq!(other.get("/api/services").await.expect(200).list("items").len(), 0);
    for action in ["start", "stop", "restart"] {
        let path = format!("/api/services/{id}/{action}");
        other.post(&path, json!({})).await.expect_problem(404, "not_found");
    }
    assert_eq!(fixture.server.query("SELECT count(*) FROM service_controls"), ["0"]);
}

async fn a_report_of_a_hostile_agent_is_bounded_and_its_own(fixture: Fixture) {
    let log = fixture.test_dir.folder("log");
    upload(&fixture, archive("1", PROGRAM, "")).await;
    let id = assign(&fixture, &log).await;
    let (_, key) = fixture.api.agent_key(json!({"name": "fake"})).await;
    let address = fixture.server.address();
    let data = json!({"policy": "library",
        "capabilities": ["ping", "execute", "packages", "assignments"]});
    let (mut agent, _) = FakeAgent::registered_full(&address, &key, data).await;
    let list = agent.expect("assignments").await;
    assert_eq!(list["items"][0]["control"], json!({"is_stopped": false, "restart_requests": 0}));
    let report = |fields: Value| {
        let mut service = json!({"state": "running", "started_at_ms": u64::MAX,
            "restart_count": u64::MAX, "restart_at_ms": u64::MAX,
            "last_error_code": "\u{202e}<b>".repeat(10_000)});
        for (name, value) in fields.as_object().into_iter().flatten() {
            service[name] = value.clone();
        }
        json!({"assignment_id": id, "version": "1", "state": "installed", "service": service})
    };
    let frame = |items: Vec<Value>| json!({"type": "assignment_states", "revision": list["revision"], "items": items});
    agent.send(frame(vec![report(json!({}))])).await;
    let shown = in_state(&fixture, &id, "running").await;
    assert!(shown.text("last_error_code").chars().count() <= 64, "{shown}");
    assert!(!shown.text("last_error_code").contains('\u{202e}'));
    assert_eq!(shown["started_at"], "9999-12-31T23:59:59.999Z");
    assert_eq!(shown["restart_count"], 1_000_000_000);
    // The id of the run follows from the agent, so it is no execution of another one.
    let run = shown.text("run_id").to_owned();
    fixture.api.get(&format!("/api/executions/{run}")).await.expect_problem(404, "not_found");
    agent.send(frame(vec![report(json!({"run_id": id, "started_at_ms": 1_000}))])).await;
    let shown = reported(&fixture, &id, "another start", |service| {
        service["started_at"] == "1970-01-01T00:00:01.000Z"
    })
    .await;
    assert_ne!(shown["run_id"], id.as_str(), "a claimed id is no id");
    // More reports than a host can have assignments, in a small frame.
    let many = (0..33).map(|_| report(json!({"last_error_code": "x"}))).collect();
    agent.send(frame(many)).await;
    assert_eq!(agent.closed().await.code, 1008);
}
