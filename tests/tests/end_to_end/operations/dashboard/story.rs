//! What a story in the browser needs: its server, its agents and its people.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_tests::{
    ALL, Agent, AgentOptions, Api, Database, Fixture, JsonFields as _, PASSWORD, Process,
    Publisher, Script, ServerOptions, TestDir, agent_program, eventually, free_port, repository,
    within,
};
use serde_json::{Value, json};

/// A browser with a busy machine beside it takes minutes for all screens.
const PATIENCE: Duration = Duration::from_secs(1200);
/// The address by which the owner signs in.
const OWNER: &str = "ada@example.com";

/// A server with agents, and what the browser's tests ask for by files in a folder.
pub(super) struct Story {
    fixture: Fixture,
    control: PathBuf,
    agents: Vec<Agent>,
    /// The key of the last of them.
    last_key: String,
    first: Option<Agent>,
    /// Which makes the first owner, once.
    setup_token: String,
}

impl Story {
    /// Starts a server that prints its mails, and three agents. There is no owner yet.
    pub(super) async fn new() -> Self {
        // Browsers make passkeys for names only.
        let port = free_port();
        let options = ServerOptions::default()
            .listening(&format!("127.0.0.1:{port}"))
            .with("MUSTER_PUBLIC_URL", format!("http://localhost:{port}"))
            .with("MUSTER_STORAGE_MEASURE_EVERY_MS", 500)
            .with("MUSTER_REGISTRATION", "open");
        let fixture = Fixture::with(options.with("MUSTER_DEMO_PRINT_CODES", true)).await;
        let control = fixture.test_dir.folder("control");
        let setup_token = fs::read_to_string(fixture.server.data_dir().join("setup_token"));
        let setup_token = setup_token.expect("the token").trim().to_owned();
        let (agents, last_key) = (Vec::new(), String::new());
        let mut story = Self { fixture, control, agents, last_key, first: None, setup_token };
        for number in 1..=3 {
            let name = format!("shop-{number}");
            let body = json!({"name": name, "permissions": ALL, "tags": ["shop"]});
            let key = story.fixture.api.post("/api/agents/keys", body).await.expect(201);
            let agent = story.agent(&name, key.text("key"));
            story.agents.push(agent);
            key.text("key").clone_into(&mut story.last_key);
            let id = story.fixture.online(key.text("id")).await.id().to_owned();
            let path = format!("/api/agents/{id}");
            story.fixture.api.patch(&path, json!({"name": name})).await.expect(200);
        }
        story
    }

    /// The same with the owner, the first agent, jobs that have ended, and one of everything that a screen shows.
    pub(super) async fn with_owner() -> Self {
        let mut story = Self::new().await;
        let api = story.fixture.api.clone();
        let owner = json!({"name": "Ada", "email": OWNER, "password": PASSWORD});
        api.with_key(&story.setup_token).post("/api/setup", owner).await.expect(201);
        let key = json!({"name": "first", "permissions": ALL, "tags": ["web", "eu"]});
        let key = api.post("/api/agents/keys", key).await.expect(201);
        story.first = Some(story.agent("first", key.text("key")));
        story.fixture.online(key.text("id")).await;
        let owner = story.person(OWNER).await;
        // The second one fails on one host.
        for mut body in [
            json!({"script": "deploy", "parameters": {"VERSION": "1.4.2"}}),
            json!({"script": "check"}),
        ] {
            body["target"] = json!({"expression": "tag:shop"});
            let job = owner.post("/api/jobs", body).await.expect(202);
            let path = format!("/api/jobs/{}", job.id());
            eventually("the job has ended", async || {
                let job = owner.get(&path).await.expect(200);
                job["finished_at"].is_string().then_some(())
            })
            .await;
        }
        story.make_examples().await;
        story
    }

    /// A server that issues its own certificate, with one agent that trusts it. There is no owner yet.
    pub(super) async fn issuing() -> Self {
        let test_dir = TestDir::new();
        let options = ServerOptions::issuing(&test_dir).with("MUSTER_HEARTBEAT_INTERVAL_MS", 1_000);
        let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
        let authority = fixture.test_dir.folder("authorities").join("old.pem");
        fs::copy(fixture.server.data_dir().join("ca.pem"), &authority).expect("copy the authority");
        let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")]);
        let options = AgentOptions { name: "first".to_owned(), ..options };
        let (first, _) = fixture.agent(options.with("MUSTER_CA_FILE", authority.display())).await;
        let control = fixture.test_dir.folder("control");
        let setup_token = fs::read_to_string(fixture.server.data_dir().join("setup_token"));
        let setup_token = setup_token.expect("the token").trim().to_owned();
        let (agents, last_key) = (Vec::new(), String::new());
        Self { fixture, control, agents, last_key, first: Some(first), setup_token }
    }

    /// The requests of a person who has just signed in.
    async fn person(&self, email: &str) -> Api {
        let api = self.fixture.api.with_key("");
        let login = json!({"email": email, "password": PASSWORD});
        let session = api.post("/api/auth/login", login).await.expect(200);
        api.with_key(session.text("access_token"))
    }

    /// Writes what the owner of a host adds to its facts: hostile texts, and a name that is none.
    fn write_facts(&self, name: &str, role: &str) {
        let folder = self.fixture.test_dir.folder(name).join("facts.d");
        fs::create_dir_all(&folder).expect("make the folder");
        let facts = json!({
            "role": role, "app": {"ports": [80, 443]}, "<b>bold</b>": "x",
            "note": "<img src=x onerror=alert(1)> \u{202e}evil\u{1b}[31m",
        });
        fs::write(folder.join("shop.json"), facts.to_string()).expect("write the facts");
    }

    fn agent(&self, name: &str, key: &str) -> Agent {
        self.write_facts(name, if name == "shop-1" { "front" } else { "back" });
        let go_on = self.control.join("finish_count.done");
        let check = match name {
            "shop-2" => "echo checking\necho 'disk is full' >&2\nexit 3\n",
            _ => "echo checking\necho fine\n",
        };
        let count = format!(
            "i=0\nwhile [ $i -lt 40 ]; do i=$((i+1)); printf 'line %04d\\n' $i; if [ $i = 5 ]; then while \
             [ ! -e '{}' ]; do sleep 0.1; done; fi; done\n",
            go_on.display()
        );
        let deploy = "for i in 1 2 3; do printf '\\033[32mstep %s\\033[0m\\n' $i; done\necho released $VERSION\n";
        let big = "echo needle-at-the-start; yes 'INFO request handled in 12 ms path=/api/items/123 status=200 size=4711 user=ada' | \
                   head -c 100000000\necho\necho needle-at-the-end\n";
        let hostile = "printf '<img src=x onerror=alert(1)>\\n\\033]0;owned\\007title\\nbidi \\342\\200\\256 evil\\n'\n";
        let options = AgentOptions::with_scripts([
            Script::new("hello", &format!("echo hello from {name}\n")),
            Script::new("check", check),
            Script::new("count", &count),
            Script::new("big", big),
            Script::new("hostile", hostile)
                .with("description", json!("<b>bold</b> \u{202e}desrever")),
            Script::new("deploy", deploy)
                .with("parameters", json!([{"name": "VERSION", "required": true}])),
        ]);
        // Only one that has a supervisor can restart.
        let supervised = name.starts_with("shop-3");
        let options = AgentOptions { name: name.to_owned(), supervised, ..options };
        Agent::start(&self.fixture.test_dir, &self.fixture.server.url(), key, options)
    }

    async fn carry_out(&mut self, what: &str, value: &str) {
        match what {
            "start_agent" => self.first = Some(self.agent("first", value)),
            "kill_server" => self.fixture.server.kill_9(),
            "start_server" => self.fixture.server.resume(),
            "stop_agent" => self.agents[2].stop(),
            "resume_agent" => self.agents[2].resume(),
            "change_role" => self.write_facts("shop-1", value),
            "reinstall_agent" => self.reinstall_agent().await,
            // Packages of the server run on this host from now on.
            "allow_library" => {
                let first = self.first.as_ref().expect("the first agent was started");
                first.write_policy(r#"{"allow": "library"}"#);
            }
            "announce_authority" | "switch_authority" | "retire_authority" => {
                self.step_rollover(what.trim_end_matches("_authority")).await;
            }
            // The host lets the server write and read files in one folder, whose path is in a file.
            "allow_files" => {
                let folder = self.fixture.test_dir.folder("files");
                let files = json!({"write": [&folder], "read": [&folder], "max_mode": "0640"});
                let first = self.first.as_ref().expect("the first agent was started");
                first.write_policy(&json!({"allow": "library", "files": files}).to_string());
                let path = folder.display().to_string();
                fs::write(self.control.join("files_folder"), path).expect("write the path");
            }
            "publish_release" => {
                Publisher::new(&self.fixture).await.release("0.2.0").await;
            }
            "make_examples" => self.make_examples().await,
            "read_log" => {
                let log = self.fixture.server.log();
                fs::write(self.control.join("server.log"), log).expect("write the log");
            }
            _ => {}
        }
    }

    /// Another installation of the last host: it has the same agent key, and a new key pair.
    async fn reinstall_agent(&mut self) {
        self.agents[2].stop();
        self.agents[2] = self.agent("shop-3-again", &self.last_key);
        let state_dir = self.agents[2].state_dir();
        let fingerprint = eventually("the host has a key pair", async || {
            let status = agent_program(state_dir, &["status", "--json"], &[]).await;
            let status: Value = serde_json::from_slice(&status.stdout).ok()?;
            Some(status["agent"]["fingerprint"].as_str()?.to_owned())
        })
        .await;
        fs::write(self.control.join("fingerprint"), fingerprint).expect("write the fingerprint");
    }

    /// Takes a step as soon as it strands no agent.
    async fn step_rollover(&self, action: &str) {
        let (api, path) = (&self.fixture.api, "/api/certificates/rollover");
        if action != "announce" {
            eventually("the agent has stored the next authority", async || {
                let view = api.get(path).await.expect(200);
                (view["confirmed_count"] == 1).then_some(())
            })
            .await;
        }
        api.post(path, json!({"action": action})).await.expect(200);
    }

    /// One of everything that a screen shows, and its ids.
    async fn make_examples(&self) {
        let api = &self.fixture.api;
        let by_hand = json!({"script": "hello", "target": {"expression": "name:shop-1"}});
        let rule = json!({"cron": "30 2 * * *", "time_zone": "Europe/Berlin"});
        let schedule = json!({"name": "nightly", "rule": rule, "job": by_hand});
        let schedule = api.post("/api/schedules", schedule).await.expect(201);
        let rule = json!({"name": "careful", "target": "tag:shop", "scripts": ["hello"]});
        api.post("/api/approvals/rules", rule).await.expect(201);
        // The owner made the server, and so counts as the person of its first key: another person asks.
        self.invite(json!({"email": "bob@example.com", "role": "member"})).await;
        let bob = self.person("bob@example.com").await;
        bob.post("/api/jobs", by_hand).await.expect(202);
        let approvals = api.get("/api/approvals").await.expect(200);
        let execution = api.get("/api/executions?script=deploy").await.expect(200);
        let execution = &execution.list("items")[0];
        let email = "audrey@example.com";
        let invitation = json!({"email": email, "role": "auditor"});
        let ids: Value = json!({
            "agent": execution["agent_id"], "job": execution["job_id"], "execution": execution["id"],
            "schedule": schedule["id"], "approval": approvals.list("items")[0]["id"], "auditor_email": email,
        });
        self.invite(invitation).await;
        fs::write(self.control.join("ids.json"), ids.to_string()).expect("write the ids");
    }

    /// The owner invites a person who accepts.
    async fn invite(&self, invitation: Value) {
        let owner = self.person(OWNER).await;
        let made = owner.post("/api/invitations", invitation).await.expect(201);
        let holder = owner.with_key(made.text("token"));
        let accept = json!({"name": "Audrey", "password": PASSWORD});
        holder.post("/api/invitations/accept", accept).await.expect(201);
    }

    /// Runs these specs in a browser, and does what they ask for.
    pub(super) async fn show(mut self, specs: &[&str]) {
        let web = repository().join("web");
        let url = self.fixture.server.url().replace("127.0.0.1", "localhost");
        let folder = self.fixture.test_dir.path().to_owned();
        let results = folder.join("results").display().to_string();
        let control = self.control.display().to_string();
        let config = web.join("playwright.config.ts").display().to_string();
        let program = web.join("node_modules/.bin/playwright");
        assert!(program.is_file(), "Playwright is missing: run `make web`");
        let mut environment = vec![
            ("MUSTER_URL", url.trim_end_matches('/').to_owned()),
            ("MUSTER_SETUP_TOKEN", self.setup_token.clone()),
            ("MUSTER_CONTROL", control),
            ("MUSTER_RESULTS", results),
            ("CI", "1".to_owned()),
            ("NO_COLOR", "1".to_owned()),
        ];
        if let Ok(screenshots) = std::env::var("MUSTER_SCREENSHOTS") {
            environment.push(("MUSTER_SCREENSHOTS", screenshots));
        }
        let specs: Vec<String> = specs.iter().map(|spec| format!("/{spec}[.]spec[.]ts$")).collect();
        let mut args = vec!["test", "--config", &config];
        args.extend(specs.iter().map(String::as_str));
        let mut browser = Process::start("browser", &program, &args, environment, &folder);

        const ASKED: [&str; 16] = [
            "start_agent",
            "kill_server",
            "start_server",
            "finish_count",
            "stop_agent",
            "resume_agent",
            "publish_release",
            "change_role",
            "reinstall_agent",
            "allow_library",
            "allow_files",
            "announce_authority",
            "switch_authority",
            "retire_authority",
            "make_examples",
            "read_log",
        ];
        let status = within(PATIENCE, "the browser's tests end", async || {
            for what in ASKED {
                let (asked, done) =
                    (self.control.join(what), self.control.join(format!("{what}.done")));
                if is_there(&asked) && !is_there(&done) {
                    let value = fs::read_to_string(&asked).expect("what is asked for");
                    self.carry_out(what, &value).await;
                    fs::write(&done, "").expect("answer");
                }
            }
            browser.status()
        })
        .await;
        let log = browser.log();
        assert!(status.success(), "{log}");
        eventually("the browser reports its tests", async || log.contains(" passed").then_some(()))
            .await;
    }
}

fn is_there(path: &Path) -> bool {
    path.try_exists().is_ok_and(|there| there)
}
