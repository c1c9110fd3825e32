//! Requests that hosts would refuse, and more requests than a server accepts: each is answered
//! clearly, and nothing is stored, lost or duplicated. Malformed requests are tested with jobs and
//! targets.

use std::sync::Arc;
use std::time::Duration;

use muster_tests::{
    ALL, AgentOptions, FakeAgent, Fixture, JsonFields as _, Script, eventually, on_both_databases,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

on_both_databases!(
    command_that_the_host_would_refuse_is_refused_and_not_stored,
    offline_host_is_judged_by_its_last_manifest_unless_sent_anyway,
);

fn declared() -> Value {
    json!([
        {"name": "COLOUR", "required": true, "choices": ["red", "blue"]},
        {"name": "TOKEN", "secret": true},
    ])
}

fn scripts() -> Vec<Script> {
    vec![Script::new("paint", "echo \"$COLOUR\"").with("parameters", declared())]
}

/// Waits until the host has reported its manifest and policy, a moment after it connected.
async fn told(fixture: &Fixture, agent: &str) {
    eventually("the host has told its rules", async || {
        let listed = fixture.api.get(&format!("/api/agents/{agent}/scripts")).await;
        listed.json().to_string().contains("\"name\"").then_some(())
    })
    .await;
}

async fn nothing_is_stored(fixture: &Fixture) {
    assert_eq!(fixture.api.get("/api/jobs").await.expect(200)["items"], json!([]));
    assert_eq!(fixture.api.get("/api/commands").await.expect(200)["items"], json!([]));
}

async fn command_that_the_host_would_refuse_is_refused_and_not_stored(fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts())).await;
    told(&fixture, &id).await;
    for (data, code, told) in [
        (json!({"script": "piant"}), "unknown_script", "did you mean `paint`?"),
        (json!({"script": "paint"}), "invalid_parameters", "`COLOUR` is required"),
        (
            json!({"script": "paint", "parameters": {"COLOUR": "green"}}),
            "invalid_parameters",
            "red, blue",
        ),
        (
            json!({"script": "paint", "parameters": {"COLOUR": "red", "SIZE": "1"}}),
            "invalid_parameters",
            "`SIZE` is not declared",
        ),
        (
            json!({"script": "paint", "parameters": {"COLOUR": "red", "TOKEN": "hunter2"}}),
            "invalid_parameters",
            "send it in `secret_parameters`",
        ),
    ] {
        let mut job = data.clone();
        job["target"] = json!({"ids": [id]});
        for refused in [
            fixture.api.try_execute(&id, data.clone()).await,
            fixture.api.post("/api/jobs", job).await,
        ] {
            let refused = refused.expect_problem(422, code);
            let detail = refused.text("detail");
            assert!(detail.contains(told) && !detail.contains("hunter2"), "{detail}");
        }
    }
    nothing_is_stored(&fixture).await;
    // A parameter that is not declared secret may be sent as one.
    let data = json!({"script": "paint", "secret_parameters": {"COLOUR": "blue", "TOKEN": "x"}});
    let made = fixture.api.try_execute(&id, data).await.expect(202);
    let made = made.id();
    assert_eq!(fixture.api.finished(made).await["state"], "succeeded");
}

async fn offline_host_is_judged_by_its_last_manifest_unless_sent_anyway(fixture: Fixture) {
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts(scripts())).await;
    told(&fixture, &id).await;
    agent.stop();
    eventually("it is away", async || {
        let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (shown["status"] == "offline").then_some(())
    })
    .await;
    let data = json!({"script": "print"});
    let refused = fixture.api.try_execute(&id, data.clone()).await;
    let refused = refused.expect_problem(422, "unknown_script");
    let detail = refused.text("detail");
    assert!(detail.contains("(offline, by its last report)"), "{detail}");
    assert!(detail.ends_with("Nothing was sent"), "{detail}");
    nothing_is_stored(&fixture).await;
    let sent = fixture.api.execute_anyway(&id, data).await;
    assert_eq!(fixture.api.command(&sent).await["state"], "queued");
    agent.allow(&[Script::new("print", "echo printed")]);
    agent.resume();
    assert_eq!(fixture.api.finished(&sent).await["state"], "succeeded");
}

#[tokio::test]
async fn job_that_some_hosts_would_refuse_is_refused_with_their_names() {
    let fixture = Fixture::on_sqlite().await;
    let mut ids = Vec::new();
    let mut agents = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        let scripts = match name {
            "one" => scripts(),
            _ => vec![Script::new("print", "echo printed")],
        };
        let (agent, id) =
            fixture.agent(AgentOptions { scripts, ..AgentOptions::named(name) }).await;
        fixture.api.patch(&format!("/api/agents/{id}"), json!({"name": name})).await.expect(200);
        told(&fixture, &id).await;
        agents.push(agent);
        ids.push(id);
    }
    let job = json!({"script": "paint", "parameters": {"COLOUR": "red"}, "target": {"ids": ids}});
    let refused = fixture.api.post("/api/jobs", job.clone()).await;
    let refused = refused.expect_problem(422, "unknown_script");
    let detail = refused.text("detail");
    assert!(detail.contains("4 of 5 hosts") && detail.contains("and 1 more"), "{detail}");
    assert!(!detail.contains("one:"), "{detail}");
    nothing_is_stored(&fixture).await;
    let mut anyway = job.clone();
    anyway["on_mismatch"] = json!("send");
    let made = fixture.api.post("/api/jobs", anyway).await.expect(202);
    let path = format!("/api/jobs/{}", made.id());
    eventually("each host has judged for itself", async || {
        let job = fixture.api.get(&path).await.expect(200);
        (job["counts"] == json!({"succeeded": 1, "rejected": 4})).then_some(())
    })
    .await;
    // Manifests that were changed a moment ago are in force already.
    for agent in &agents[1..] {
        agent.allow(&scripts());
    }
    fixture.api.post("/api/jobs", job).await.expect(202);
}

#[tokio::test]
async fn repeated_request_gets_the_first_answer_even_if_the_manifest_changed() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) = fixture.agent(AgentOptions::with_scripts(scripts())).await;
    let path = format!("/api/agents/{id}/command");
    let data = json!({"script": "paint", "parameters": {"COLOUR": "red"}});
    let body = json!({"command": "execute", "data": data});
    let job = json!({"script": "paint", "parameters": {"COLOUR": "red"}, "target": {"ids": [id]}});
    let command = fixture.api.post_once(&path, "once", body.clone()).await.expect(202);
    let made = fixture.api.post_once("/api/jobs", "job", job.clone()).await.expect(202);
    agent.allow(&[Script::new("other", "true")]);
    fixture.ask(&id, "scripts", json!({})).await;
    fixture.api.try_execute(&id, data).await.expect_problem(422, "unknown_script");
    let again = fixture.api.post_once(&path, "once", body).await.expect(202);
    assert_eq!(again["id"], command["id"]);
    assert_eq!(fixture.api.post_once("/api/jobs", "job", job).await.expect(202)["id"], made["id"]);
}

#[tokio::test]
async fn hosts_without_a_known_manifest_decide_themselves() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let address = fixture.server.address();
    let (mut silent, _) = FakeAgent::registered_full(&address, &key, json!({"policy": null})).await;
    let id = fixture.online(&key_id).await.id().to_owned();
    for data in [json!({"script": "anything"}), json!({"argv": ["uname"]})] {
        fixture.api.try_execute(&id, data.clone()).await.expect(202);
        let command = silent.expect("command").await;
        assert_eq!(command["data"], data);
    }
}

#[tokio::test]
async fn host_that_does_not_answer_a_preflight_delays_no_other() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let address = fixture.server.address();
    let (mut mute, _) = FakeAgent::registered_full(&address, &key, json!({})).await;
    // Names from a hostile host: none of them is repeated.
    let list = json!({"scripts": [{"name": "hell\u{1b}[2Jo", "path": "a"}]});
    mute.send(json!({"type": "manifest", "manifest": list})).await;
    let id = fixture.online(&key_id).await.id().to_owned();
    eventually("the list is there", async || {
        let listed = fixture.api.get(&format!("/api/agents/{id}/scripts")).await;
        listed.json().to_string().contains("hell").then_some(())
    })
    .await;
    let (answer, ()) =
        tokio::join!(fixture.api.try_execute(&id, json!({"script": "hello"})), async {
            assert_eq!(mute.expect("command").await["command"], "scripts");
        });
    // The host decides for itself.
    answer.expect(202);
    let judged = mute.expect("command").await;
    assert_eq!(judged["command"], "execute");
    let (refused, ()) =
        tokio::join!(fixture.api.try_execute(&id, json!({"script": "hello"})), async {
            let asked = mute.expect("command").await;
            let answer =
                json!({"type": "response", "command_id": asked["command_id"], "success": true});
            mute.send(answer).await;
        });
    let refused = refused.expect_problem(422, "unknown_script");
    assert!(!refused.to_string().contains("did you mean"), "{refused}");
}

/// Jobs that one caller submits at once.
const JOBS: usize = 10_000;
/// The number of connections that it uses.
const CONNECTIONS: usize = 1_100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_jobs_at_once_are_each_created_once_or_refused_with_retry_after() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("read the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise the limit of open files");
    let mut fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let (away, _) = FakeAgent::registered_full(&fixture.server.address(), &key, json!({})).await;
    let id = fixture.online(&key_id).await.id().to_owned();
    drop(away);
    let body = json!({"script": "hello", "target": {"ids": [id]}}).to_string().into_bytes();
    let turns = Arc::new(Semaphore::new(CONNECTIONS));
    let submissions = (0..JOBS).map(|number| {
        let (api, body, turns) = (fixture.api.clone(), body.clone(), Arc::clone(&turns));
        tokio::spawn(async move {
            let key = format!("job-{number}");
            let _turn = turns.acquire().await.expect("open");
            loop {
                let headers = [("idempotency-key", key.as_str())];
                let sent = api.try_send(Method::POST, "/api/jobs", &headers, Some(body.clone()));
                // The server closes connections without a request, perhaps just as one is sent. The
                // client doesn't know whether it arrived, and sends it again with its key.
                let answer = match sent.await {
                    Ok(answer) => answer,
                    Err(error) => {
                        assert!(!error.is_builder() && !error.is_decode(), "{error:?}");
                        eprintln!("job {number} is sent again: {error:?}");
                        continue;
                    }
                };
                if answer.status == 202 {
                    return answer.json().id().to_owned();
                }
                assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.json());
                let later: u64 = answer.header("retry-after").parse().expect("when to come back");
                tokio::time::sleep(Duration::from_secs(later)).await;
            }
        })
    });
    let answers = futures_util::future::join_all(submissions.collect::<Vec<_>>()).await;
    let mut made: Vec<_> = answers.into_iter().map(|answer| answer.expect("no panic")).collect();
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), JOBS, "each submission made a job of its own");
    let mut listed = Vec::with_capacity(JOBS);
    let mut cursor = String::new();
    loop {
        let page = fixture.api.get(&format!("/api/jobs?limit=500{cursor}")).await.expect(200);
        let items = page.list("items");
        listed.extend(items.iter().map(|job| job.id().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, made, "none is lost, none is doubled");
    let status = format!("/proc/{}/status", fixture.server.process().id());
    let status = std::fs::read_to_string(status).expect("the server's status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak_kib < 512 * 1024, "the server took {peak_kib} KiB");
}
