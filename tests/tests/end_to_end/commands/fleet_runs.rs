//! Runs on many agents: who is skipped, who is waited for, and what people read about it.

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, Script, ended, eventually, on_both_databases,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

on_both_databases!(
    offline_agents_are_skipped_waited_for_or_refuse_the_job,
    hosts_that_would_refuse_are_skipped_with_the_reason,
    preview_shows_every_decision_and_stores_nothing,
    open_execution_says_why_it_waits_and_an_ended_one_does_not,
    retry_takes_outcomes_and_agents_and_names_its_origin,
    agents_are_listed_by_expression_page_by_page,
);

async fn agent(fixture: &Fixture, name: &str, scripts: Vec<Script>) -> (Agent, String) {
    let options = AgentOptions { scripts, ..AgentOptions::named(name) };
    let (agent, id) = fixture.agent(options).await;
    let tagged = json!({"name": name, "tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{id}"), tagged).await.expect(200);
    (agent, id)
}

async fn stopped(fixture: &Fixture, agent: &mut Agent, id: &str) {
    agent.stop();
    eventually("it is offline", async || {
        let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (shown["status"] == "offline").then_some(())
    })
    .await;
}

fn web(script: &str) -> Value {
    json!({"script": script, "target": {"tags": ["web"]}})
}

fn with(mut body: Value, field: &str, value: &str) -> Value {
    body[field] = json!(value);
    body
}

/// The job after its end.
async fn over(fixture: &Fixture, job: &str) -> Value {
    eventually("the job is over", async || {
        let job = fixture.api.get(&format!("/api/jobs/{job}")).await.expect(200);
        job["finished_at"].is_string().then_some(job)
    })
    .await
}

/// The execution of a job on an agent.
async fn execution(fixture: &Fixture, job: &str, agent: &str) -> Value {
    let page = fixture.api.get(&format!("/api/jobs/{job}/executions")).await.expect(200);
    let found = page.list("items").iter().find(|run| run["agent_id"] == agent).cloned();
    found.expect("an execution")
}

async fn offline_agents_are_skipped_waited_for_or_refuse_the_job(fixture: Fixture) {
    let hi = || vec![Script::new("hi", "echo hi")];
    let (_one, _) = agent(&fixture, "one", hi()).await;
    let (mut gone, gone_id) = agent(&fixture, "gone", hi()).await;
    stopped(&fixture, &mut gone, &gone_id).await;

    let refused = fixture.api.post("/api/jobs", with(web("hi"), "offline", "fail")).await;
    let problem = refused.json();
    refused.expect_problem(409, "agents_offline");
    let detail = "1 of 2 agents are offline: gone. Nothing was sent";
    assert_eq!(problem["detail"], detail, "{problem}");

    let skip = fixture.api.post("/api/jobs", with(web("hi"), "offline", "skip")).await.expect(202);
    let job = over(&fixture, skip.id()).await;
    let counts = json!({"succeeded": 1, "skipped": 1});
    assert_eq!((&job["state"], &job["counts"]), (&json!("succeeded"), &counts));
    let skipped = execution(&fixture, skip.id(), &gone_id).await;
    assert_eq!(skipped["error_code"], "skipped_offline", "{skipped}");
    assert!(skipped["error"].as_str().is_some_and(|why| why.contains("was offline")), "{skipped}");
    let listed = fixture.api.get("/api/executions?state=skipped").await.expect(200);
    assert_eq!(listed.list("items").len(), 1);

    let only = json!({"script": "hi", "target": {"ids": [gone_id]}, "offline": "skip"});
    fixture.api.post("/api/jobs", only).await.expect_problem(422, "all_agents_skipped");
    let mut both = with(web("hi"), "offline", "skip");
    both["rollout"] = json!({"wave_size": 1});
    fixture.api.post("/api/jobs", both).await.expect_problem(422, "invalid_field");
}

async fn hosts_that_would_refuse_are_skipped_with_the_reason(fixture: Fixture) {
    let (_has, _) = agent(&fixture, "has", vec![Script::new("deploy", "true")]).await;
    let (_not, not) = agent(&fixture, "not", vec![Script::new("other", "true")]).await;
    fixture.api.post("/api/jobs", web("deploy")).await.expect_problem(422, "unknown_script");
    let job = fixture.api.post("/api/jobs", with(web("deploy"), "on_mismatch", "skip")).await;
    let job = over(&fixture, job.expect(202).id()).await;
    let counts = json!({"succeeded": 1, "skipped": 1});
    assert_eq!((&job["state"], &job["counts"]), (&json!("succeeded"), &counts));
    let skipped = execution(&fixture, job.id(), &not).await;
    assert_eq!(skipped["error_code"], "skipped_unknown_script", "{skipped}");
    let none = with(web("nowhere"), "on_mismatch", "skip");
    fixture.api.post("/api/jobs", none).await.expect_problem(422, "all_agents_skipped");
}

async fn preview_shows_every_decision_and_stores_nothing(fixture: Fixture) {
    let deploy = || vec![Script::new("deploy", "true")];
    let (_runs, _) = agent(&fixture, "runs", deploy()).await;
    let (mut waits, waits_id) = agent(&fixture, "waits", deploy()).await;
    let (_refuses, _) = agent(&fixture, "refuses", vec![Script::new("other", "true")]).await;
    stopped(&fixture, &mut waits, &waits_id).await;
    let preview = async |body: Value| fixture.api.post("/api/jobs/preview", body).await.expect(200);
    let decided = |preview: &Value| -> Vec<(String, String)> {
        let agents = preview.list("agents").iter();
        agents.map(|it| (it.text("name").to_owned(), it.text("decision").to_owned())).collect()
    };
    let pairs =
        |pairs: [(&str, &str); 3]| pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let shown = preview(web("deploy")).await;
    assert_eq!(shown["would_start"], false, "{shown}");
    assert_eq!(decided(&shown), pairs([("refuses", "refuse"), ("waits", "wait"), ("runs", "run")]));
    let reason = shown["agents"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("has no script `deploy`"), "{reason}");
    let skips = with(with(web("deploy"), "on_mismatch", "skip"), "offline", "skip");
    let shown = preview(skips).await;
    assert_eq!(shown["would_start"], true, "{shown}");
    assert_eq!(shown["counts"], json!({"refuse": 0, "skip": 2, "wait": 0, "run": 1}));
    let jobs = fixture.api.get("/api/jobs").await.expect(200);
    assert!(jobs.list("items").is_empty(), "{jobs}");
}

async fn open_execution_says_why_it_waits_and_an_ended_one_does_not(fixture: Fixture) {
    let (mut gone, id) = agent(&fixture, "gone", vec![Script::new("hi", "echo hi")]).await;
    stopped(&fixture, &mut gone, &id).await;
    let job = fixture.api.post("/api/jobs", web("hi")).await.expect(202);
    let why = job.text("explanation");
    assert!(
        why.starts_with("Executions: 0 ended, 0 on their hosts, 1 queued.")
            && why.contains("cancel"),
        "{why}"
    );
    let queued = execution(&fixture, job.id(), &id).await;
    let why = queued.text("explanation");
    let expires = queued.text("expires_at");
    assert!(why.starts_with("gone is offline since 2"), "{why}");
    assert!(why.contains(&format!("expires at {expires} otherwise")), "{why}");
    assert!(queued["agent_offline_since"].is_string(), "{queued}");
    gone.resume();
    let job = over(&fixture, job.id()).await;
    let ended = execution(&fixture, job.id(), &id).await;
    assert_eq!((&job["explanation"], &ended["explanation"]), (&Value::Null, &Value::Null));
}

async fn retry_takes_outcomes_and_agents_and_names_its_origin(fixture: Fixture) {
    let ends = |code: u8| vec![Script::new("try", &format!("exit {code}"))];
    let (_good, good) = agent(&fixture, "good", ends(0)).await;
    let (_bad, bad) = agent(&fixture, "bad", ends(3)).await;
    let job = fixture.api.post("/api/jobs", web("try")).await.expect(202);
    let path = format!("/api/jobs/{}/retry", over(&fixture, job.id()).await.id());
    let retried = async |body: Value| fixture.api.post(&path, body).await;
    let again = retried(json!({"states": ["failed"]})).await.expect(202);
    assert_eq!(again["target"], json!({"ids": [bad]}));
    assert_eq!(again["retry_of"], job["id"]);
    let ok = retried(json!({"states": ["succeeded", "lost"]})).await.expect(202);
    assert_eq!(ok["target"], json!({"ids": [good]}));
    retried(json!({"states": ["expired"]})).await.expect_problem(409, "nothing_to_retry");
    let one = json!({"executions": "all", "agent_ids": [good]});
    assert_eq!(retried(one).await.expect(202)["target"], json!({"ids": [good]}));
    let none = json!({"executions": "failed", "agent_ids": [good]});
    retried(none).await.expect_problem(409, "nothing_to_retry");
}

async fn agents_are_listed_by_expression_page_by_page(fixture: Fixture) {
    let (_one, one) = agent(&fixture, "one", vec![]).await;
    let (_two, two) = agent(&fixture, "two", vec![]).await;
    let (_other, _) = fixture.agent(AgentOptions::named("other")).await;
    let list = async |rest: &str| {
        let path = format!("/api/agents?expression=tag:web%20%26%20status:online{rest}");
        fixture.api.get(&path).await.expect(200)
    };
    let ids = |page: &Value| -> Vec<String> {
        page.list("items").iter().map(|agent| agent.id().to_owned()).collect()
    };
    assert_eq!(ids(&list("").await), [one.clone(), two.clone()]);
    let first = list("&limit=1").await;
    assert_eq!(ids(&first), [one]);
    let second = list(&format!("&limit=1&cursor={}", first.text("next_cursor"))).await;
    assert_eq!((ids(&second), &second["next_cursor"]), (vec![two], &Value::Null));
    let wrong = fixture.api.get("/api/agents?expression=tag:").await;
    wrong.expect_problem(422, "invalid_target");
}

#[tokio::test]
async fn run_on_many_prints_a_line_for_each_agent_and_groups_identical_output() {
    let fixture = Fixture::on_sqlite().await;
    let says = |word: &str| vec![Script::new("say", &format!("echo same; echo {word}"))];
    let (_one, _) = agent(&fixture, "one", says("usual")).await;
    let (_two, _) = agent(&fixture, "two", says("usual")).await;
    let (_odd, _) = agent(&fixture, "odd", says("odd; exit 4")).await;
    let cli = fixture.cli().await;
    let ran = cli.run(&["run", "one,two,odd", "say"]).await;
    let out = ran.expect(1);
    assert_eq!(
        out,
        "2 agents: one, two:\n  same\n  usual\n1 agent: odd, which differs:\n    same\n  - usual\n  \
         + odd\n1 failed, 2 succeeded\n"
    );
    for line in ["one: succeeded in ", "two: succeeded in ", "odd: failed in "] {
        assert!(ran.stderr.contains(line), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("2 outputs are identical, 1 differs"), "{}", ran.stderr);
    let silent = cli.run(&["run", "--tag", "web", "--no-show", "say"]).await.expect(1);
    assert_eq!(silent, "1 failed, 2 succeeded\n");

    let jobs = fixture.api.get("/api/jobs").await.expect(200);
    let first = jobs["items"][1].id();
    cli.run(&["jobs", "wait", first]).await.expect(1);
    assert!(cli.run(&["jobs", "watch", first]).await.expect(1).contains("+ odd"));
    let retried = cli.run(&["jobs", "retry", first, "--matching", "^odd$"]).await;
    // Without (?m) the pattern is about the whole output.
    retried.expect(1);
    let retried = cli.run(&["jobs", "retry", first, "--matching", "(?m)^odd$"]).await.expect(0);
    assert!(retried.contains(&format!("retries job {first} on 1 agent.")), "{retried}");
    let shown = cli.run(&["jobs", "show", &first[..24]]).await.expect(0);
    assert!(shown.contains(first), "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("failed: ") && line.ends_with(")")),
        "{shown}"
    );
    let requester = shown.lines().find(|line| line.starts_with("requested_by_name"));
    assert!(requester.is_some_and(|line| line.ends_with(" bootstrap")), "{shown}");
}

#[tokio::test]
async fn interrupt_detaches_from_a_job_and_cancels_it_only_on_request() {
    let fixture = Fixture::on_sqlite().await;
    let sleep = || vec![Script::new("sleep", "echo begun; exec sleep 600")];
    let (_one, _) = agent(&fixture, "one", sleep()).await;
    let (mut gone, gone_id) = agent(&fixture, "gone", sleep()).await;
    stopped(&fixture, &mut gone, &gone_id).await;
    let cli = fixture.cli().await;
    let interrupted = async |args: &[&str]| {
        let known = fixture.api.get("/api/jobs").await.expect(200).list("items").len();
        let running = cli.start(args);
        let job = eventually("the job runs", async || {
            let jobs = fixture.api.get("/api/jobs").await.expect(200);
            let job = &jobs["items"][0];
            let is_new = jobs.list("items").len() > known;
            (is_new && job["counts"]["running"] == 1).then(|| job.id().to_owned())
        })
        .await;
        kill(Pid::from_raw(running.id() as i32), Signal::SIGINT).expect("interrupt");
        (job, ended(running).await)
    };
    let (job, left) = interrupted(&["run", "--tag", "web", "sleep"]).await;
    left.expect(130);
    for part in [format!("muster jobs watch {job}"), format!("muster jobs cancel {job}")] {
        assert!(left.stderr.contains(&part), "{}", left.stderr);
    }
    let shown = fixture.api.get(&format!("/api/jobs/{job}")).await.expect(200);
    assert_eq!(shown["state"], "running", "an interrupt leaves the job alone");
    let cancelled = cli.run(&["jobs", "cancel", &job]).await.expect(0);
    assert!(cancelled.starts_with(&format!("Job {job} ")), "{cancelled}");
    over(&fixture, &job).await;

    let cancels = ["run", "--tag", "web", "--cancel-on-interrupt", "sleep"];
    let (job, ended) = interrupted(&cancels).await;
    ended.expect(130);
    assert_eq!(over(&fixture, &job).await["state"], "cancelled");
}

#[tokio::test]
async fn run_names_the_offline_agents_that_it_waits_for() {
    let fixture = Fixture::on_sqlite().await;
    let hi = || vec![Script::new("hi", "echo hi")];
    let (_one, _) = agent(&fixture, "one", hi()).await;
    let (mut gone, gone_id) = agent(&fixture, "gone", hi()).await;
    stopped(&fixture, &mut gone, &gone_id).await;
    let cli = fixture.cli().await;
    let dry = cli.run(&["run", "--tag", "web", "--dry-run", "hi"]).await;
    assert!(dry.expect(0).contains("waits: offline"), "{dry:?}");
    let expired = cli.run(&["run", "--tag", "web", "--expires", "1s", "hi"]).await;
    assert!(expired.expect(1).ends_with("1 expired, 1 succeeded\n"), "{expired:?}");
    assert!(expired.stderr.contains("for 1 offline agent:\n  gone, offline since "), "{expired:?}");
    assert!(expired.stderr.contains("gone: expired: "), "{expired:?}");
    let skipped = cli.run(&["run", "--tag", "web", "--offline", "skip", "hi"]).await;
    assert!(skipped.expect(0).ends_with("1 skipped, 1 succeeded\n"), "{skipped:?}");
    assert!(skipped.stderr.contains("gone: skipped: the agent was offline"), "{skipped:?}");
    cli.run(&["run", "--tag", "web", "--offline", "fail", "hi"]).await.expect(1);
    let near = cli.run(&["ping", "gnoe"]).await;
    assert!(near.stderr.contains("did you mean gone?"), "{}", near.stderr);
    let pinged = cli.run(&["ping", "--tag", "web"]).await;
    assert!(pinged.expect(1).contains("one answered in "), "{pinged:?}");
    assert!(pinged.stderr.contains("1 of 2 agents did not answer"), "{pinged:?}");
    let agents = cli.run(&["suggest", "--", "run", "--detach", ""]).await.expect(0);
    assert_eq!(agents, "one\ngone\n");
    assert_eq!(cli.run(&["suggest", "--", "run", "one", "h"]).await.expect(0), "hi\n");
}
