//! Packages that scripts need: installed on the host from the index that the host names, once for all scripts
//! with the same requirements.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, Process, eventually, is_terminal, within,
    write_policy,
};
use serde_json::{Value, json};

use super::output;

const BODY: &str = "import os\nimport muster_test_greeting\nprint(muster_test_greeting.TEXT, 'PIP_INDEX_URL' in os.environ)\n";

/// A package index on this machine.
struct Index {
    _process: Process,
    folder: PathBuf,
    /// For pip.
    url: String,
    /// For npm.
    registry: String,
}

impl Index {
    async fn start(fixture: &Fixture) -> Self {
        let folder = fixture.test_dir.folder("index");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/package_index.py");
        let arguments = [program.to_str().expect("text"), folder.to_str().expect("text")];
        let root = fixture.test_dir.path();
        let process = Process::start(
            "index",
            Path::new("python3"),
            &arguments,
            [("PYTHONUNBUFFERED", "1")],
            root,
        );
        let port =
            eventually("the index listens", async || fs::read_to_string(folder.join("port")).ok())
                .await;
        let url = format!("http://127.0.0.1:{port}/simple");
        let registry = format!("http://127.0.0.1:{port}/npm/");
        Self { _process: process, folder, url, registry }
    }

    fn request_count(&self) -> usize {
        fs::read_to_string(self.folder.join("requests")).unwrap_or_default().lines().count()
    }
}

async fn host(fixture: &Fixture, index: &Index) -> (Agent, String) {
    let options = AgentOptions::named("agent")
        .with("PIP_INDEX_URL", &index.url)
        .with("NPM_CONFIG_REGISTRY", &index.registry);
    let state = fixture.test_dir.folder(&options.name);
    write_policy(&state, &json!({"allow": "library"}).to_string());
    fixture.agent(options).await
}

async fn save(fixture: &Fixture, name: &str, requirements: &str, body: &str) {
    let script = json!({"name": name, "body": body, "interpreter": "python",
        "requirements": requirements, "timeout_ms": 600_000});
    fixture.api.post("/api/scripts", script).await.expect(201);
}

async fn run(fixture: &Fixture, agent: &str, name: &str) -> (Value, String) {
    let command = fixture.api.execute(agent, &format!("library:{name}"), json!({})).await;
    // An installation takes long on a busy machine.
    let ended = within(Duration::from_secs(300), "the execution ends", async || {
        let command = fixture.api.command(&command).await;
        is_terminal(command.text("state")).then_some(command)
    })
    .await;
    let text = output(fixture, &command).await;
    (ended, text)
}

#[tokio::test]
async fn packages_are_installed_once_from_the_index_that_the_host_names() {
    let fixture = Fixture::on_sqlite().await;
    let index = Index::start(&fixture).await;
    let (agent, id) = host(&fixture, &index).await;
    save(&fixture, "greet", "muster-test-greeting==1.0\n", BODY).await;
    let (ended, text) = run(&fixture, &id, "greet").await;
    assert_eq!(ended["state"], "succeeded", "{ended}\n{text}");
    // The output has the installation; the script does not get the host's settings.
    assert!(text.contains("muster-test-greeting"), "{text}");
    assert!(text.ends_with("a greeting from the index False\n"), "{text}");
    let requests = index.request_count();
    assert!(requests >= 2, "the index was asked");

    let other = format!("{BODY}print('another script')\n");
    save(&fixture, "other", "muster-test-greeting==1.0\n", &other).await;
    let (ended, text) = run(&fixture, &id, "other").await;
    assert_eq!(ended["state"], "succeeded", "{ended}\n{text}");
    assert_eq!(text, "a greeting from the index False\nanother script\n");
    assert_eq!(index.request_count(), requests, "both share one environment");

    save(&fixture, "unknown", "muster-test-no-such-package==7\n", BODY).await;
    let (ended, text) = run(&fixture, &id, "unknown").await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("failed"), &json!("dependencies_failed")),
        "{ended}\n{text}"
    );
    assert!(text.contains("muster-test-no-such-package"), "{text}");
    let environments = fs::read_dir(agent.state_dir().join("environments")).expect("listed");
    let with_packages = environments.flatten().filter(|entry| entry.path().join("ready").exists());
    assert_eq!(with_packages.count(), 1, "what failed is not kept");
}

const NODE_BODY: &str = "const packed = require('muster-test-greeting');\n\
    const ran = require('fs').existsSync(require.resolve('muster-test-greeting').replace('index.js', 'ran'));\n\
    console.log(packed.text, ran, 'NPM_CONFIG_REGISTRY' in process.env);\n";

async fn save_node(fixture: &Fixture, name: &str, dependencies: Value, body: &str) {
    let file =
        json!({"name": "mine", "scripts": {"install": "echo never"}, "dependencies": dependencies});
    let script = json!({"name": name, "body": body, "interpreter": "node",
        "requirements": file.to_string(), "timeout_ms": 600_000});
    fixture.api.post("/api/scripts", script).await.expect(201);
}

#[tokio::test]
async fn packages_of_node_are_installed_once_from_the_registry_that_the_host_names() {
    let fixture = Fixture::on_sqlite().await;
    let index = Index::start(&fixture).await;
    // Node looks for one in the folders above a script, which other programs of this machine may have.
    fs::write(fixture.test_dir.path().join("package.json"), "{}").expect("written");
    let (agent, id) = host(&fixture, &index).await;
    let wanted = || json!({"muster-test-greeting": "^1.0.0"});
    save_node(&fixture, "greet", wanted(), NODE_BODY).await;
    let (ended, text) = run(&fixture, &id, "greet").await;
    assert_eq!(ended["state"], "succeeded", "{ended}\n{text}");
    // Scripts of packages do not run, and the script does not get the host's settings.
    assert!(text.ends_with("a greeting from the registry false false\n"), "{text}");
    let requests = index.request_count();
    assert!(requests >= 2, "the registry was asked");

    save_node(&fixture, "other", wanted(), &format!("{NODE_BODY}console.log('other')\n")).await;
    let (ended, text) = run(&fixture, &id, "other").await;
    assert_eq!(ended["state"], "succeeded", "{ended}\n{text}");
    assert_eq!(text, "a greeting from the registry false false\nother\n");
    assert_eq!(index.request_count(), requests, "both share one environment");

    save_node(&fixture, "unknown", json!({"muster-test-no-such-package": "7"}), NODE_BODY).await;
    let (ended, text) = run(&fixture, &id, "unknown").await;
    assert_eq!(ended["error_code"], "dependencies_failed", "{ended}\n{text}");
    assert!(text.contains("muster-test-no-such-package"), "{text}");
    let environments = fs::read_dir(agent.state_dir().join("environments")).expect("listed");
    let with_packages = environments.flatten().filter(|entry| entry.path().join("ready").exists());
    assert_eq!(with_packages.count(), 1, "what failed is not kept");
}

#[tokio::test]
async fn a_package_json_chooses_no_address_and_no_file() {
    let fixture = Fixture::on_sqlite().await;
    for version in ["http://127.0.0.1:1/x.tgz", "file:../x", "evil/x", "npm:other@1"] {
        let file = json!({"dependencies": {"x": version}}).to_string();
        let script =
            json!({"name": "bad", "body": "1", "interpreter": "node", "requirements": file});
        let refused = fixture.api.post("/api/scripts", script).await;
        let refused = refused.expect_problem(422, "invalid_field");
        assert!(refused.text("detail").contains("requirements"), "{refused}");
    }
}

#[tokio::test]
async fn requirements_choose_no_index_and_no_address() {
    let fixture = Fixture::on_sqlite().await;
    for requirements in
        ["--index-url http://127.0.0.1:1/\nsix", "six @ http://127.0.0.1:1/six.whl", "-e ."]
    {
        let script = json!({"name": "bad", "body": "pass", "interpreter": "python",
            "requirements": requirements});
        let refused = fixture.api.post("/api/scripts", script).await;
        let refused = refused.expect_problem(422, "invalid_field");
        assert!(refused.text("detail").contains("requirements"), "{refused}");
    }
    let script = json!({"name": "bad", "body": "true", "interpreter": "sh", "requirements": "six"});
    fixture.api.post("/api/scripts", script).await.expect_problem(422, "invalid_field");
}
