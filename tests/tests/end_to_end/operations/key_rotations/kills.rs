//! A rotation of the master key is killed with SIGKILL before each of its steps. A debug build of the server
//! kills itself there, so each run is killed at the same point.

use std::os::unix::process::ExitStatusExt as _;

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, PASSWORD, Person, Script, ServerOptions,
    on_both_databases, sign_in, totp_code,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{copy_rows, printed, sealed_under, webhook_secret};

on_both_databases!(
    a_rotation_that_is_killed_before_any_step_leaves_every_secret_readable_and_is_finished,
    a_server_that_is_killed_while_it_replaces_its_key_finds_both_and_finishes_later,
);

/// The steps, in their order, each with the keys that values are sealed under when it is reached.
const STEPS: [(&str, usize); 8] = [
    ("killed_before_deleting_token_keys", 1),
    ("killed_before_sealing_values", 1),
    ("killed_before_sealing_more_values", 2),
    ("killed_before_sealing_settings", 2),
    ("killed_before_writing_the_audit_entry", 2),
    ("killed_before_sealing_the_record", 2),
    ("killed_before_linking_the_previous_file", 1),
    ("killed_before_renaming_the_next_file", 1),
];
/// More than two transactions seal again.
const COPIES: usize = 450;
const SECRET: &str = "hunter2-hunter2";

/// Secrets of each kind that is sealed, and what uses them.
pub(super) struct Secrets {
    agent: Agent,
    agent_id: String,
    /// Waits for the agent.
    queued: String,
    pub webhook: String,
    pub owner: Person,
    totp: String,
    hook: (String, String),
    schedule: String,
}

impl Secrets {
    pub(super) async fn of(fixture: &Fixture) -> Self {
        let scripts = [
            Script::new("tell", &format!("[ \"$TOKEN\" = {SECRET} ]")).taking(["TOKEN"]),
            Script::new("none", "true"),
        ];
        let (mut agent, agent_id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
        let owner = fixture.owner().await;
        let webhook = webhook_secret(fixture).await;
        let made = owner.api.post("/api/me/totp", json!({})).await.expect(201);
        let totp = made.text("secret").to_owned();
        let code = json!({"code": totp_code(&totp, 0)});
        owner.api.post("/api/me/totp/confirm", code).await.expect(200);
        let target = json!({"ids": [agent_id]});
        let hook = json!({"name": "hook", "authentication": "bearer",
            "job": {"script": "none", "target": target}});
        let hook = fixture.api.post("/api/hooks", hook).await.expect(201);
        let schedule = json!({"name": "nightly", "rule": {"every_ms": 86_400_000},
            "job": {"script": "tell", "target": target}, "secret_parameters": {"TOKEN": SECRET}});
        let schedule = fixture.api.post("/api/schedules", schedule).await.expect(201);
        let integration = json!({"kind": "slack", "name": "chat", "event_types": ["job.failed"],
            "settings": {"url": "https://hooks.invalid/secret"}});
        fixture.api.post("/api/integrations", integration).await.expect(201);
        agent.stop();
        let data = json!({"secret_parameters": {"TOKEN": SECRET}});
        let queued = fixture.api.execute(&agent_id, "tell", data).await;
        Self {
            agent,
            agent_id,
            queued,
            webhook,
            owner,
            totp,
            hook: (hook.id().to_owned(), hook.text("secret").to_owned()),
            schedule: schedule.id().to_owned(),
        }
    }

    /// What opens a secret works, and the audit logs are intact.
    pub(super) async fn can_be_used(&self, fixture: &Fixture) {
        assert_eq!(webhook_secret(fixture).await, self.webhook);
        let bearer = format!("Bearer {}", self.hook.1);
        // A delivery with this id that was made before has its job.
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "one")];
        let path = format!("/hooks/{}", self.hook.0);
        let body = Some(b"{}".to_vec());
        let api = fixture.api.with_key("");
        let delivered = api.try_send(reqwest::Method::POST, &path, &headers, body).await;
        delivered.expect("an answer").expect(202);
        for log in ["", "?log=server"] {
            let path = format!("/api/audit/verify{log}");
            let found = fixture.api.get(&path).await.expect(200);
            assert_eq!(found["is_intact"], true, "{found}");
        }
    }

    /// The host gets what waited for it and what a schedule has; a code of the second factor counts.
    pub(super) async fn are_delivered(mut self, fixture: &Fixture) {
        fixture.server.query("UPDATE totp_secrets SET last_step = 0");
        let waiting = sign_in(&fixture.api, &self.owner.email, PASSWORD).await.expect(202);
        let code = totp_code(&self.totp, 0);
        let body = json!({"challenge": waiting.text("challenge"), "code": code});
        fixture.api.with_key("").post("/api/auth/login/code", body).await.expect(200);
        self.agent.resume();
        let queued = fixture.api.finished(&self.queued).await;
        assert_eq!(queued["state"], "succeeded", "{queued}");
        let run = format!("/api/schedules/{}/run", self.schedule);
        fixture.api.post(&run, json!({})).await.expect(202);
        let path = format!("/api/executions?agent_id={}&trigger=schedule", self.agent_id);
        let run = muster_tests::eventually("the schedule's job has an execution", async || {
            let page = fixture.api.get(&path).await.expect(200);
            page.list("items").first().map(|run: &Value| run.id().to_owned())
        })
        .await;
        fixture.api.in_state(&run, "succeeded").await;
    }
}

fn killed_at(step: &str) -> ServerOptions {
    ServerOptions::default().with("MUSTER_FAULT", step)
}

/// No rotation met a value that neither key opens.
async fn nothing_was_unreadable(fixture: &Fixture) {
    let log = fixture.api.get("/api/audit?log=server&action=master_key.rotate").await.expect(200);
    assert!(!log.list("items").is_empty(), "{log}");
    assert!(log.list("items").iter().all(|entry| entry["detail"]["unreadable"] == 0), "{log}");
}

async fn a_rotation_that_is_killed_before_any_step_leaves_every_secret_readable_and_is_finished(
    mut fixture: Fixture,
) {
    let secrets = Secrets::of(&fixture).await;
    copy_rows(&fixture, COPIES);
    let mut present = sealed_under(&fixture);
    fixture.server.stop();
    for (step, keys) in STEPS {
        fixture.server.configure(killed_at(step));
        let killed = fixture.server.run(&["rotate-master-key"]);
        assert_eq!(killed.status.signal(), Some(Signal::SIGKILL as i32), "{step}: {killed:?}");
        assert_eq!(sealed_under(&fixture).len(), keys, "{step}");
        // A server starts with both keys.
        fixture.server.configure(ServerOptions::default());
        fixture.server.resume();
        fixture.server.ready().await;
        secrets.can_be_used(&fixture).await;
        fixture.server.stop();
        // The same rotation is finished, with the key that it has made.
        let said = printed(&fixture.server.run(&["rotate-master-key"]));
        assert!(!said.contains("unreadable"), "{step}: {said}");
        let after = sealed_under(&fixture);
        assert!(after.len() == 1 && after[0].0 != present[0].0, "{step}: {present:?} {after:?}");
        assert!(!fixture.server.data_dir().join("master.key.next").exists(), "{step}");
        present = after;
    }
    fixture.server.resume();
    fixture.server.ready().await;
    secrets.can_be_used(&fixture).await;
    nothing_was_unreadable(&fixture).await;
    secrets.are_delivered(&fixture).await;
}

async fn a_server_that_is_killed_while_it_replaces_its_key_finds_both_and_finishes_later(
    mut fixture: Fixture,
) {
    let secrets = Secrets::of(&fixture).await;
    copy_rows(&fixture, COPIES);
    let mut present = sealed_under(&fixture);
    // The token key that the server makes for a sign-in while it runs may have either key.
    for (step, _) in STEPS {
        fixture.server.stop();
        fixture.server.resume_with(killed_at(step));
        fixture.server.ready().await;
        let asked = fixture.server.run(&["rotate-master-key"]);
        assert!(!asked.status.success(), "{step}: the server answered");
        let ended = fixture.server.process().ended().await;
        assert_eq!(ended.signal(), Some(Signal::SIGKILL as i32), "{step}");
        fixture.server.resume_with(ServerOptions::default());
        fixture.server.ready().await;
        secrets.can_be_used(&fixture).await;
        printed(&fixture.server.run(&["rotate-master-key"]));
        let after = sealed_under(&fixture);
        assert!(after.len() == 1 && after[0].0 != present[0].0, "{step}: {present:?} {after:?}");
        secrets.can_be_used(&fixture).await;
        present = after;
    }
    nothing_was_unreadable(&fixture).await;
    secrets.are_delivered(&fixture).await;
}
