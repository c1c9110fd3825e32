//! Requests that hosts would refuse, and more of them than a server takes: each is answered clearly, and
//! nothing is stored, lost or doubled. What makes no sense by itself stands with jobs and targets.

use std::sync::Arc;
use std::time::Duration;

use muster_tests::{ALL, AgentOptions, FakeAgent, Script, World, eventually, on_both_databases};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

on_both_databases!(
    what_a_host_would_refuse_is_refused_before_anything_is_stored,
    of_a_host_that_is_away_its_last_word_counts_unless_it_is_sent_anyway,
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

/// Waits until the host has told its rules: a moment after it has connected.
async fn told(world: &World, agent: &str) {
    eventually("the host has told its rules", async || {
        let listed = world.api.get(&format!("/api/agents/{agent}/scripts")).await;
        listed.json().to_string().contains("\"name\"").then_some(())
    })
    .await;
}

async fn nothing_is_stored(world: &World) {
    assert_eq!(world.api.get("/api/jobs").await.expect(200)["items"], json!([]));
    assert_eq!(world.api.get("/api/commands").await.expect(200)["items"], json!([]));
}

async fn what_a_host_would_refuse_is_refused_before_anything_is_stored(world: World) {
    let (_agent, id) = world.agent(AgentOptions::with_scripts(scripts())).await;
    told(&world, &id).await;
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
        for refused in
            [world.api.try_execute(&id, data.clone()).await, world.api.post("/api/jobs", job).await]
        {
            let refused = refused.expect_problem(422, code);
            let detail = refused["detail"].as_str().expect("a sentence");
            assert!(detail.contains(told) && !detail.contains("hunter2"), "{detail}");
        }
    }
    nothing_is_stored(&world).await;
    // What is not declared secret may come as one.
    let data = json!({"script": "paint", "secret_parameters": {"COLOUR": "blue", "TOKEN": "x"}});
    let made = world.api.try_execute(&id, data).await.expect(202);
    let made = made["id"].as_str().expect("an id");
    assert_eq!(world.api.finished(made).await["state"], "succeeded");
}

async fn of_a_host_that_is_away_its_last_word_counts_unless_it_is_sent_anyway(world: World) {
    let (mut agent, id) = world.agent(AgentOptions::with_scripts(scripts())).await;
    told(&world, &id).await;
    agent.stop();
    eventually("it is away", async || {
        let shown = world.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (shown["status"] == "offline").then_some(())
    })
    .await;
    let data = json!({"script": "print"});
    let refused = world.api.try_execute(&id, data.clone()).await;
    let refused = refused.expect_problem(422, "unknown_script");
    let detail = refused["detail"].as_str().expect("a sentence");
    assert!(detail.contains("(offline, by its last report)"), "{detail}");
    assert!(detail.ends_with("The request was not stored"), "{detail}");
    nothing_is_stored(&world).await;
    let sent = world.api.execute_anyway(&id, data).await;
    assert_eq!(world.api.command(&sent).await["state"], "queued");
    agent.allow(&[Script::new("print", "echo printed")]);
    agent.resume();
    assert_eq!(world.api.finished(&sent).await["state"], "succeeded");
}

#[tokio::test]
async fn what_only_some_hosts_would_refuse_is_refused_as_a_whole_with_their_names() {
    let world = World::on_sqlite().await;
    let mut ids = Vec::new();
    let mut agents = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        let scripts = match name {
            "one" => scripts(),
            _ => vec![Script::new("print", "echo printed")],
        };
        let (agent, id) = world.agent(AgentOptions { scripts, ..AgentOptions::named(name) }).await;
        world.api.patch(&format!("/api/agents/{id}"), json!({"name": name})).await.expect(200);
        told(&world, &id).await;
        agents.push(agent);
        ids.push(id);
    }
    let job = json!({"script": "paint", "parameters": {"COLOUR": "red"}, "target": {"ids": ids}});
    let refused = world.api.post("/api/jobs", job.clone()).await;
    let refused = refused.expect_problem(422, "unknown_script");
    let detail = refused["detail"].as_str().expect("a sentence");
    assert!(detail.contains("4 of 5 hosts") && detail.contains("and 1 more"), "{detail}");
    assert!(!detail.contains("one:"), "{detail}");
    nothing_is_stored(&world).await;
    let mut anyway = job.clone();
    anyway["on_mismatch"] = json!("send");
    let made = world.api.post("/api/jobs", anyway).await.expect(202);
    let path = format!("/api/jobs/{}", made["id"].as_str().expect("an id"));
    eventually("each host has judged for itself", async || {
        let job = world.api.get(&path).await.expect(200);
        (job["counts"] == json!({"succeeded": 1, "rejected": 4})).then_some(())
    })
    .await;
    // Lists that were changed a moment ago count already.
    for agent in &agents[1..] {
        agent.allow(&scripts());
    }
    world.api.post("/api/jobs", job).await.expect(202);
}

#[tokio::test]
async fn the_same_request_is_answered_as_before_whatever_the_host_says_by_now() {
    let world = World::on_sqlite().await;
    let (agent, id) = world.agent(AgentOptions::with_scripts(scripts())).await;
    let path = format!("/api/agents/{id}/command");
    let data = json!({"script": "paint", "parameters": {"COLOUR": "red"}});
    let body = json!({"command": "execute", "data": data});
    let job = json!({"script": "paint", "parameters": {"COLOUR": "red"}, "target": {"ids": [id]}});
    let command = world.api.post_once(&path, "once", body.clone()).await.expect(202);
    let made = world.api.post_once("/api/jobs", "job", job.clone()).await.expect(202);
    agent.allow(&[Script::new("other", "true")]);
    world.ask(&id, "scripts", json!({})).await;
    world.api.try_execute(&id, data).await.expect_problem(422, "unknown_script");
    let again = world.api.post_once(&path, "once", body).await.expect(202);
    assert_eq!(again["id"], command["id"]);
    assert_eq!(world.api.post_once("/api/jobs", "job", job).await.expect(202)["id"], made["id"]);
}

#[tokio::test]
async fn hosts_that_never_said_anything_judge_for_themselves() {
    let world = World::on_sqlite().await;
    let (key_id, key) = world.api.agent_key(json!({"permissions": ALL})).await;
    let address = world.server.address();
    let (mut silent, _) = FakeAgent::registered_full(&address, &key, json!({"policy": null})).await;
    let id = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    for data in [json!({"script": "anything"}), json!({"argv": ["uname"]})] {
        world.api.try_execute(&id, data.clone()).await.expect(202);
        let command = silent.expect("command").await;
        assert_eq!(command["data"], data);
    }
}

#[tokio::test]
async fn a_host_that_is_asked_and_does_not_answer_holds_nobody_up() {
    let world = World::on_sqlite().await;
    let (key_id, key) = world.api.agent_key(json!({"permissions": ALL})).await;
    let address = world.server.address();
    let (mut mute, _) = FakeAgent::registered_full(&address, &key, json!({})).await;
    // Names of a hostile host: none of them is repeated.
    let list = json!({"scripts": [{"name": "hell\u{1b}[2Jo", "path": "a"}]});
    mute.send(json!({"type": "manifest", "manifest": list})).await;
    let id = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    eventually("the list is there", async || {
        let listed = world.api.get(&format!("/api/agents/{id}/scripts")).await;
        listed.json().to_string().contains("hell").then_some(())
    })
    .await;
    let (answer, ()) =
        tokio::join!(world.api.try_execute(&id, json!({"script": "hello"})), async {
            assert_eq!(mute.expect("command").await["command"], "scripts");
        });
    // It will judge for itself.
    answer.expect(202);
    let judged = mute.expect("command").await;
    assert_eq!(judged["command"], "execute");
    let (refused, ()) =
        tokio::join!(world.api.try_execute(&id, json!({"script": "hello"})), async {
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
/// Connections that it does so over.
const CONNECTIONS: usize = 1_100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_jobs_at_once_from_one_caller_are_each_made_once_or_told_to_come_back() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("read the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise the limit of open files");
    let mut world = World::on_sqlite().await;
    let (key_id, key) = world.api.agent_key(json!({"permissions": ALL})).await;
    let (away, _) = FakeAgent::registered_full(&world.server.address(), &key, json!({})).await;
    let id = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    drop(away);
    let body = json!({"script": "hello", "target": {"ids": [id]}}).to_string().into_bytes();
    let turns = Arc::new(Semaphore::new(CONNECTIONS));
    let submissions = (0..JOBS).map(|number| {
        let (api, body, turns) = (world.api.clone(), body.clone(), Arc::clone(&turns));
        tokio::spawn(async move {
            let key = format!("job-{number}");
            for attempt in 1.. {
                let turn = turns.acquire().await.expect("open");
                let headers = [("idempotency-key", key.as_str())];
                let sent = api.try_send(Method::POST, "/api/jobs", &headers, Some(body.clone()));
                let answer = sent.await.expect("an answer");
                drop(turn);
                if answer.status == 202 {
                    return answer.json()["id"].as_str().expect("an id").to_owned();
                }
                assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.json());
                let later: u64 = answer.header("retry-after").parse().expect("when to come back");
                // As any caller has to, and for longer each time: ten thousand at once are many.
                tokio::time::sleep(Duration::from_secs(later * attempt)).await;
            }
            unreachable!("there is always another attempt")
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
        let page = world.api.get(&format!("/api/jobs?limit=500{cursor}")).await.expect(200);
        let items = page["items"].as_array().expect("a list");
        listed.extend(items.iter().map(|job| job["id"].as_str().expect("an id").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, made, "none is lost, none is doubled");
    let status = format!("/proc/{}/status", world.server.process().id());
    let status = std::fs::read_to_string(status).expect("the server's status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak_kib < 512 * 1024, "the server took {peak_kib} KiB");
}
