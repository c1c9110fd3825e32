//! The dashboard: its files as the server sends them, and all of it in Debian's Chromium with real agents.
//! The browser's part is in `web/tests`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_tests::{
    ALL, Agent, AgentOptions, Fixture, JsonFields as _, PASSWORD, Process, Script, ServerOptions,
    eventually, free_port, repository, within,
};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING};
use reqwest::{Client, Response};
use serde_json::{Value, json};

const PAGE: &str = "text/html,application/xhtml+xml,*/*;q=0.8";
/// A browser with a busy machine beside it takes minutes for all screens.
const PATIENCE: Duration = Duration::from_secs(1200);

async fn get(fixture: &Fixture, path: &str, accept: &str) -> Response {
    let client = Client::builder().no_proxy().build().expect("make a client");
    let request = client.get(format!("{}{path}", fixture.server.url()));
    let request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, "gzip");
    request.send().await.expect("reach the server")
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

fn built() -> PathBuf {
    let dist = repository().join("web/dist");
    assert!(dist.join("index.html").is_file(), "the dashboard is not built: run `make web`");
    dist
}

#[tokio::test]
async fn dashboard_is_sent_to_browsers_only_and_its_files_are_kept() {
    let dist = built();
    let fixture = Fixture::on_sqlite().await;
    for path in ["/", "/fleet", "/jobs/01a1fdaf-2ceb-7398-a560-fef62154c108"] {
        let page = get(&fixture, path, PAGE).await;
        assert_eq!(page.status().as_u16(), 200, "{path}");
        assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
        assert_eq!(header(&page, "cache-control"), "no-cache");
        assert_eq!(header(&page, CONTENT_ENCODING.as_str()), "gzip");
        let policy = header(&page, "content-security-policy");
        for rule in
            ["default-src 'none'", "script-src 'self';", "require-trusted-types-for 'script'"]
        {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    // A page that the browser has is not sent again.
    let page = get(&fixture, "/", PAGE).await;
    let client = Client::builder().no_proxy().build().expect("make a client");
    let again =
        client.get(fixture.server.url()).header(ACCEPT, PAGE).header(ACCEPT_ENCODING, "gzip");
    let again =
        again.header("if-none-match", header(&page, "etag")).send().await.expect("reach it");
    assert_eq!(again.status().as_u16(), 304);

    let text = fs::read_to_string(dist.join("index.html")).expect("the page");
    assert!(!text.contains("<style") && !text.contains("<script>"), "{text}");
    let asset = text.split('"').find(|part| part.starts_with("/assets/")).expect("an asset");
    let sent = get(&fixture, asset, "*/*").await;
    assert_eq!(header(&sent, "cache-control"), "public, max-age=31536000, immutable");

    // Programs, and wrong addresses of the API, get what they always got.
    for (path, accept) in
        [("/fleet", "*/*"), ("/api/nothing", PAGE), ("/api", PAGE), ("/assets/nothing.js", PAGE)]
    {
        let refused = get(&fixture, path, accept).await;
        assert_eq!(refused.status().as_u16(), 404, "{path}");
        assert_eq!(header(&refused, "content-type"), "application/problem+json", "{path}");
    }
}

/// What the browser's tests ask for by files in a folder.
struct Story {
    fixture: Fixture,
    control: PathBuf,
    agents: Vec<Agent>,
    first: Option<Agent>,
}

impl Story {
    /// Starts a server that prints its mails, and three agents.
    async fn begin() -> Self {
        // Browsers make passkeys for names only.
        let port = free_port();
        let options = ServerOptions::default()
            .listening(&format!("127.0.0.1:{port}"))
            .with("MUSTER_PUBLIC_URL", format!("http://localhost:{port}"))
            .with("MUSTER_REGISTRATION", "open");
        let fixture = Fixture::with(options.with("MUSTER_DEMO_PRINT_CODES", true)).await;
        let control = fixture.test_dir.folder("control");
        let mut story = Self { fixture, control, agents: Vec::new(), first: None };
        for number in 1..=3 {
            let name = format!("shop-{number}");
            let body = json!({"name": name, "permissions": ALL, "tags": ["shop"]});
            let key = story.fixture.api.post("/api/agents/keys", body).await.expect(201);
            let agent = story.agent(&name, key.text("key"));
            story.agents.push(agent);
            let id = story.fixture.online(key.text("id")).await.id().to_owned();
            let path = format!("/api/agents/{id}");
            story.fixture.api.patch(&path, json!({"name": name})).await.expect(200);
        }
        story
    }

    fn agent(&self, name: &str, key: &str) -> Agent {
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
        let big = "yes 'INFO request handled in 12 ms path=/api/items/123 status=200 size=4711 user=ada' | \
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
        let options = AgentOptions { name: name.to_owned(), ..options };
        Agent::start(&self.fixture.test_dir, &self.fixture.server.url(), key, options)
    }

    async fn carry_out(&mut self, what: &str, value: &str) {
        match what {
            "start_agent" => self.first = Some(self.agent("first", value)),
            "kill_server" => self.fixture.server.kill_9(),
            "start_server" => self.fixture.server.resume(),
            "stop_agent" => self.agents[2].stop(),
            "resume_agent" => self.agents[2].resume(),
            // Packages of the server run on this host from now on.
            "allow_library" => {
                let first = self.first.as_ref().expect("the first agent was started");
                first.write_policy(r#"{"allow": "library"}"#);
            }
            "make_examples" => self.make_examples().await,
            "read_log" => {
                let log = self.fixture.server.log();
                fs::write(self.control.join("server.log"), log).expect("write the log");
            }
            _ => {}
        }
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
        let login = json!({"email": "bob@example.com", "password": PASSWORD});
        let bob = api.with_key("").post("/api/auth/login", login).await.expect(200);
        let bob = api.with_key(bob.text("access_token"));
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

    /// The owner, who signed up in the browser, invites a person who accepts.
    async fn invite(&self, invitation: Value) {
        let api = self.fixture.api.with_key("");
        let login = json!({"email": "ada@example.com", "password": PASSWORD});
        let owner = api.post("/api/auth/login", login).await.expect(200);
        let owner = api.with_key(owner.text("access_token"));
        let made = owner.post("/api/invitations", invitation).await.expect(201);
        let holder = api.with_key(made.text("token"));
        let accept = json!({"name": "Audrey", "password": PASSWORD});
        holder.post("/api/invitations/accept", accept).await.expect(201);
    }
}

fn is_there(path: &Path) -> bool {
    path.try_exists().is_ok_and(|there| there)
}

#[tokio::test]
async fn people_set_up_run_watch_and_approve_in_a_browser() {
    built();
    let mut story = Story::begin().await;
    let web = repository().join("web");
    let token = fs::read_to_string(story.fixture.server.data_dir().join("setup_token"));
    let token = token.expect("the token").trim().to_owned();
    let url = story.fixture.server.url().replace("127.0.0.1", "localhost");
    let folder = story.fixture.test_dir.path().to_owned();
    let results = folder.join("results").display().to_string();
    let control = story.control.display().to_string();
    let config = web.join("playwright.config.ts").display().to_string();
    let program = web.join("node_modules/.bin/playwright");
    assert!(program.is_file(), "Playwright is missing: run `make web`");
    let mut environment = vec![
        ("MUSTER_URL", url.trim_end_matches('/').to_owned()),
        ("MUSTER_SETUP_TOKEN", token),
        ("MUSTER_CONTROL", control),
        ("MUSTER_RESULTS", results),
        ("CI", "1".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ];
    if let Ok(screenshots) = std::env::var("MUSTER_SCREENSHOTS") {
        environment.push(("MUSTER_SCREENSHOTS", screenshots));
    }
    let args = ["test", "--config", &config];
    let mut browser = Process::start("browser", &program, &args, environment, &folder);

    const ASKED: [&str; 9] = [
        "start_agent",
        "kill_server",
        "start_server",
        "finish_count",
        "stop_agent",
        "resume_agent",
        "allow_library",
        "make_examples",
        "read_log",
    ];
    let status = within(PATIENCE, "the browser's tests end", async || {
        for what in ASKED {
            let (asked, done) =
                (story.control.join(what), story.control.join(format!("{what}.done")));
            if is_there(&asked) && !is_there(&done) {
                let value = fs::read_to_string(&asked).expect("what is asked for");
                story.carry_out(what, &value).await;
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
