//! One test for each class of hole that other software of this kind has had, against the real
//! programs. Each test is named after what was attacked.

use std::path::Path;

use muster_tests::{
    Agent, AgentOptions, Api, Cli, FakeAgent, Fixture, JsonFields as _, Publisher, Script,
    full_registration, write_policy,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A text that is code for shells, terminals, browsers, YAML and logs.
const HOSTILE: &str = "$(touch MARK)`touch MARK`;touch MARK|touch MARK&&touch MARK\n\
    - !!python/object/apply:os.system ['touch MARK']\r\nroot: true\u{1b}]0;owned\u{7}\u{1b}[2J\
    <script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}${jndi:ldap://x/}%0a\\";
/// Ways to name a file outside of a folder.
const ESCAPES: [&str; 9] = [
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "../../../../etc/passwd",
    "..%252f..%252fetc%252fpasswd",
    "..%5c..%5cmaster.key",
    "%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "..;/master.key",
    "%00",
];

/// The answer to exactly this request line: a client library would normalise the path first.
async fn raw(fixture: &Fixture, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(fixture.server.address()).await.expect("reach the server");
    let request = format!("{line} HTTP/1.1\r\nhost: m\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("ask");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

/// Files of the data directory that no answer may contain, and a line of one of every Linux.
fn secrets(fixture: &Fixture) -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(fixture.server.data_dir().join(name));
    let files = ["bootstrap_key", "master.key"].map(|name| read(name).expect("read"));
    let mut secrets: Vec<_> = files.iter().map(|text| text.trim().to_owned()).collect();
    secrets.push("root:x:0:0".into());
    secrets
}

fn assert_no_mark(fixture: &Fixture) {
    let mut folders = vec![fixture.test_dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            assert!(entry.file_name() != "MARK", "a command was run in {}", folder.display());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    assert!(!Path::new("/MARK").exists() && !Path::new("MARK").exists(), "a command was run");
}

/// Salt's master had methods that nobody had to authenticate for.
#[tokio::test]
async fn salt_cve_2020_11651_no_method_is_reachable_without_authentication() {
    let fixture = Fixture::on_sqlite().await;
    let description = fixture.api.get("/openapi.json").await.expect(200);
    let mut open = Vec::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys().map(|name| name.to_uppercase()) {
            let id = uuid::Uuid::now_v7().to_string();
            let target = ["{id}", "{version}", "{platform}", "{program}"]
                .iter()
                .fold(path.clone(), |path, name| path.replace(name, &id));
            let json = "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            let headers = if method == "GET" { "" } else { json };
            let answer = raw(&fixture, &format!("{method} {target}"), headers).await;
            match status_of(&answer) {
                "401" => {}
                "200" => open.push(path.clone()),
                _ => panic!("{method} {path}: {answer}"),
            }
        }
    }
    assert_eq!(open, ["/healthz", "/readyz"]);
    // An agent that shows no key, or an unknown one, is not listened to.
    let address = fixture.server.address();
    for (query, code) in [("", 4001), ("?api_key=", 4001), ("?api_key=mst_agent_x", 4002)] {
        let mut stranger = FakeAgent::open(&address, query, None).await;
        for frame in [
            json!({"type": "register", "data": full_registration(json!({}))}),
            json!({"type": "command", "command": "execute", "data": {"argv": ["id"]}}),
            json!({"type": "connected"}),
        ] {
            let _ = stranger.try_send(frame.to_string().into()).await;
        }
        assert_eq!(stranger.closed().await.code, code);
    }
    assert_eq!(fixture.api.get("/api/agents").await.expect(200)["items"], json!([]));
    // An agent that has a key can't speak as a server: it gets no command to another agent.
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut victim = FakeAgent::registered(&address, &key, "victim").await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &key, "attacker").await;
    for kind in ["command", "rekey", "cancel", "drain", "registered", "_prep_auth_info"] {
        let id = uuid::Uuid::now_v7();
        agent.send(json!({"type": kind, "command": "execute", "command_id": id, "data": {}})).await;
    }
    agent.send(json!({"type": "heartbeat", "status": {}})).await;
    while agent.next().await.expect("a frame")["type"] != "heartbeat_ack" {}
    victim.send(json!({"type": "heartbeat", "status": {}})).await;
    assert_eq!(victim.next().await.expect("a frame")["type"], "heartbeat_ack");
}

/// Salt's wheel module read and wrote files outside of its folders by their names.
#[tokio::test]
async fn salt_cve_2020_11652_no_id_or_name_leaves_its_folder() {
    let fixture = Fixture::on_sqlite().await;
    let secrets = secrets(&fixture);
    let description = fixture.api.get("/openapi.json").await.expect(200);
    let key = bearer(fixture.api.key());
    for (path, item) in description["paths"].as_object().expect("paths") {
        if !path.contains('{') || item.get("get").is_none() {
            continue;
        }
        for escape in ESCAPES {
            let target = ["{id}", "{version}", "{platform}", "{program}"]
                .iter()
                .fold(path.clone(), |path, name| path.replace(name, escape));
            let answer = raw(&fixture, &format!("GET {target}"), &key).await;
            assert!(matches!(status_of(&answer), "400" | "404"), "{target}: {answer}");
            assert!(!secrets.iter().any(|secret| answer.contains(secret)), "{target}: {answer}");
        }
    }
    // Names in bodies become text, never paths.
    let (_, agent_key) = fixture.api.agent_key(json!({})).await;
    let host = json!({"hostname": "../../../tmp/x", "machine_id": "../../MARK"});
    let (_agent, registered) =
        FakeAgent::registered_full(&fixture.server.address(), &agent_key, host).await;
    let id = registered.text("agent_id");
    let before = std::fs::read_dir(fixture.server.data_dir()).expect("read").count();
    let refused = fixture.api.try_execute(id, json!({"script": "../../../bin/sh"})).await;
    assert_eq!(refused.status, 422, "{}", refused.json());
    let command = fixture.api.execute_anyway(id, json!({"script": "..sh"})).await;
    let output = format!("/api/executions/{command}/output?download=1");
    let name = fixture.api.get(&output).await.header("content-disposition").to_owned();
    assert!(!name.contains('/') && !name.contains(".."), "{name}");
    assert_eq!(std::fs::read_dir(fixture.server.data_dir()).expect("read").count(), before);
    assert_no_mark(&fixture);
}

/// An agent with a script that prints its parameter and its arguments.
async fn printing_agent(fixture: &Fixture) -> (Agent, String) {
    let body = "printf '%s' \"$VALUE\"; for word in \"$@\"; do printf '[%s]' \"$word\"; done";
    let options = AgentOptions::with_scripts([Script::new("print", body).taking(["VALUE"])]);
    write_policy(&fixture.test_dir.folder("agent"), r#"{"allow": "shell"}"#);
    fixture.agent(options).await
}

/// Salt's API passed fields of a request to a shell.
#[tokio::test]
async fn salt_cve_2020_16846_no_field_of_a_request_reaches_a_shell() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = printing_agent(&fixture).await;
    // Words of an ad-hoc command, with the shell's help nowhere.
    let data = json!({"argv": ["printf", "%s", HOSTILE]});
    let run = fixture.api.try_execute(&id, data).await.expect(202).id().to_owned();
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&run).await, HOSTILE.as_bytes());
    // The name of a script, of a parameter, of an agent, of a key, of a tag, of a target.
    let path = format!("/api/agents/{id}");
    for (method, path, body) in [
        (Method::POST, format!("{path}/command"), json!({"command": HOSTILE, "data": {}})),
        (
            Method::POST,
            format!("{path}/command"),
            json!({"command": "execute", "data": {"script": HOSTILE}}),
        ),
        (
            Method::POST,
            format!("{path}/command"),
            json!({"command": "execute", "data": {"script": "print", "parameters": {HOSTILE: "x"}}}),
        ),
        (Method::PATCH, path.clone(), json!({"tags": [HOSTILE]})),
        (Method::POST, "/api/agents/keys".into(), json!({"name": "k", "tags": [HOSTILE]})),
        (Method::POST, "/api/targets/preview".into(), json!({"expression": HOSTILE})),
        (
            Method::POST,
            "/api/jobs".into(),
            json!({"script": "print", "target": {"ids": [id]}, "webhook": {"url": HOSTILE}}),
        ),
        (Method::POST, "/api/releases".into(), json!({"manifest": HOSTILE, "signature": HOSTILE})),
    ] {
        let answer = fixture.api.send(method, &path, Some(body)).await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.json());
    }
    assert_no_mark(&fixture);
}

/// MeshCentral showed what agents reported as markup.
#[tokio::test]
async fn meshcentral_stored_xss_no_text_of_a_host_is_markup_or_a_terminal_escape() {
    let fixture = Fixture::on_sqlite().await;
    let name = "<script>alert(1)</script>";
    let (key_id, key) = fixture.api.agent_key(json!({"name": name})).await;
    let host = json!({"hostname": HOSTILE, "os": HOSTILE, "arch": HOSTILE, "version": HOSTILE,
        "ip": HOSTILE, "policy": HOSTILE});
    let address = fixture.server.address();
    let (mut agent, registered) = FakeAgent::registered_full(&address, &key, host).await;
    let manifest = json!({"scripts": [{"name": "hi", "path": "hi.sh", "description": HOSTILE}]});
    agent.send(json!({"type": "manifest", "manifest": manifest, "error": HOSTILE})).await;
    let id = registered.text("agent_id").to_owned();
    let command = fixture.api.execute_anyway(&id, json!({"script": "hi"})).await;
    agent.expect("command").await;
    agent.send(json!({"type": "accepted", "command_id": command, "acceptance_count": 1})).await;
    agent
        .send(json!({"type": "response", "command_id": command, "success": false,
            "error": HOSTILE, "error_code": HOSTILE, "data": {"exit_code": 1, HOSTILE: HOSTILE}}))
        .await;
    fixture.api.finished(&command).await;
    fixture.online(&key_id).await;
    for path in [
        "/api/agents".to_owned(),
        format!("/api/agents/{id}"),
        format!("/api/agents/{id}/events"),
        format!("/api/agents/{id}/scripts"),
        format!("/api/commands/{command}"),
        "/api/agents/keys".to_owned(),
        "/api/audit".to_owned(),
        format!("/api/agents/resolve?name={}", "%3Cscript%3Ealert(1)%3C%2Fscript%3E"),
    ] {
        let answer = fixture.api.get(&path).await;
        let kind = answer.header("content-type");
        assert!(matches!(kind, "application/json" | "application/problem+json"), "{path}: {kind}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy").to_owned();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(!answer.bytes.contains(&0x1b), "{path} contains an escape");
    }
    // Pages that browsers show contain nothing of a host, and no script in themselves.
    for path in ["/install", "/docs/"] {
        let page = fixture.api.get(path).await;
        let text = String::from_utf8_lossy(&page.bytes).into_owned();
        assert!(page.status == 200 && !text.contains("alert(1)"), "{path}");
        assert!(!page.header("content-security-policy").contains("script-src 'unsafe"), "{path}");
    }
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    for words in [
        &["agents", "list"][..],
        &["agents", "show", &id],
        &["agents", "scripts", &id],
        &["commands", "list"],
        &["commands", "show", &command],
        &["executions", "list"],
        &["keys", "list"],
    ] {
        let said = cli.run_on_a_terminal(words).await;
        let text = [said.stdout.as_slice(), said.stderr.as_bytes()].concat();
        let text = String::from_utf8_lossy(&text);
        // The command line's own colours are escapes that end with `m`.
        for escape in text.split('\u{1b}').skip(1) {
            let rest = escape
                .strip_prefix('[')
                .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
            assert!(rest.is_some_and(|rest| rest.starts_with('m')), "{words:?}: {text:?}");
        }
        assert!(!text.contains('\u{7}'), "{words:?}: {text:?}");
    }
}

/// Kaseya's server could be reached past its login, and took a program from there to every host.
#[tokio::test]
async fn kaseya_2021_nothing_but_an_api_key_authenticates_and_no_unsigned_program_is_taken() {
    let fixture = Fixture::on_sqlite().await;
    let owner = fixture.api.key();
    let (_, agent_key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    let basic = |key: &str| {
        let text = data_encoding::BASE64.encode(format!("{key}:{key}").as_bytes());
        format!("authorization: Basic {text}\r\n")
    };
    for headers in [
        bearer(&agent_key),
        format!("x-api-key: {agent_key}\r\n"),
        format!("cookie: session={owner}; api_key={owner}; __Host-session={owner}\r\n"),
        basic(owner),
        format!("authorization: {owner}\r\n"),
        "x-forwarded-for: 127.0.0.1\r\nx-real-ip: ::1\r\nx-original-url: /healthz\r\n".to_owned(),
        "x-forwarded-user: admin\r\nx-remote-user: admin\r\nremote-user: admin\r\n".to_owned(),
    ] {
        for line in [
            "GET /api/agents".to_owned(),
            "GET /api/keys".to_owned(),
            "GET /metrics".to_owned(),
            format!("GET /api/agents?api_key={owner}&key={owner}&token={owner}"),
            "PUT /api/releases/9.9.9/linux-x86_64/muster-agent".to_owned(),
            "POST /api/releases".to_owned(),
            "POST /api/releases/9.9.9/publish".to_owned(),
        ] {
            let answer = raw(&fixture, &line, &headers).await;
            assert_eq!(status_of(&answer), "401", "{line} with {headers}: {answer}");
        }
    }
    // Not even an operator's key makes hosts take what the release key has not signed.
    let publisher = Publisher::new(&fixture).await;
    let folder = publisher.make("0.2.0", "0.1.0").await;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("read");
    let (manifest, signature) = (read("release.json"), read("release.sig"));
    for (manifest, signature) in [
        (manifest.clone(), String::new()),
        (manifest.clone(), "{}".into()),
        (manifest.clone(), signature.replace(|c: char| c.is_ascii_uppercase(), "A")),
        (manifest.replace("0.1.0", "0.0.1"), signature),
    ] {
        let draft = json!({"manifest": manifest, "signature": signature});
        let answer = fixture.api.post("/api/releases", draft).await;
        assert!((400..500).contains(&answer.status), "{}", answer.json());
    }
    let kept = fixture.api.get("/api/releases").await.expect(200);
    assert_eq!(kept["items"], json!([]), "an unsigned release was stored");
}

/// ScreenConnect ran its set-up again for a path with something behind it.
#[tokio::test]
async fn screenconnect_2024_1709_set_up_is_over_and_no_path_comes_past_the_check() {
    let mut fixture = Fixture::on_sqlite().await;
    let stolen = format!("mst_live_{}", "a".repeat(43));
    let owner = fixture.api.key().to_owned();
    fixture.server.stop();
    let options = muster_tests::ServerOptions::default().with("MUSTER_BOOTSTRAP_KEY", &stolen);
    fixture.server.resume_with(options);
    fixture.server.ready().await;
    let attacker: Api = fixture.api.with_key(&stolen);
    let attacker = Api::new(&fixture.server.url(), attacker.key());
    attacker.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    let file = std::fs::read_to_string(fixture.server.data_dir().join("bootstrap_key"));
    assert_eq!(file.expect("read").trim(), owner, "the first key was replaced");
    let keys = Api::new(&fixture.server.url(), &owner).get("/api/keys").await.expect(200);
    assert_eq!(keys["items"].as_array().map(Vec::len), Some(1), "{keys}");

    for target in [
        "/api/keys/",
        "//api/keys",
        "/api//keys",
        "/api/./keys",
        "/api/x/../keys",
        "/api/%2e/keys",
        "/api/%6beys",
        "/api/keys%2f",
        "/api/keys/%2e%2e/keys",
        "/api/keys;x=1",
        "/api/keys/;/x",
        "/api/keys%00",
        "/api/keys?x=/healthz",
        "/healthz/../api/keys",
        "/healthz/..;/api/keys",
        "/healthz/%2e%2e/api/keys",
        "/docs/../api/keys",
        "/docs/%2e%2e/api/keys",
        "/API/KEYS",
        "/api/keys.json",
        "/api/keys/SetupWizard.aspx",
        "/SetupWizard.aspx/x",
        "/setup",
        "/api/setup",
        "/api/bootstrap",
        "/install/../api/keys",
        "/install/%2e%2e%2fapi%2fkeys",
        "http://m/api/keys",
        "http://m//api/keys",
        "/metrics/",
        "//metrics",
    ] {
        for (method, headers) in [
            ("GET", ""),
            ("HEAD", ""),
            (
                "POST",
                "content-type: application/json\r\ncontent-length: 12\r\n\r\n{\"name\":\"x\"}",
            ),
        ] {
            let answer = raw(&fixture, &format!("{method} {target}"), headers).await;
            let is_refused = matches!(status_of(&answer), "400" | "401" | "404" | "405");
            assert!(is_refused && !answer.contains("mst_live_"), "{method} {target}: {answer}");
        }
    }
}

/// Nomad read and wrote files of the host through paths of artifacts and templates.
#[tokio::test]
async fn nomad_path_traversal_no_program_output_or_script_is_taken_from_outside_its_folder() {
    let fixture = Fixture::on_sqlite().await;
    let secrets = secrets(&fixture);
    for escape in ESCAPES {
        for target in [
            format!("/install/{escape}"),
            format!("/install/linux-x86_64/{escape}"),
            format!("/install/{escape}/SHA256SUMS"),
            format!("/install/releases/{escape}/release.json"),
            format!("/install/releases/0.1.0/{escape}/muster-agent"),
            format!("/install/releases/0.1.0/linux-x86_64/{escape}"),
            format!("/docs/{escape}"),
        ] {
            let answer = raw(&fixture, &format!("GET {target}"), "").await;
            let is_refused = matches!(status_of(&answer), "400" | "404");
            assert!(is_refused, "{target}: {answer}");
            assert!(!secrets.iter().any(|secret| answer.contains(secret)), "{target}: {answer}");
        }
    }
    // On the host: a manifest can't name a file outside, nor a link that leads there.
    let (agent, id) = fixture.agent(AgentOptions::default()).await;
    let outside = fixture.test_dir.path().join("outside.sh");
    std::fs::write(&outside, "#!/bin/sh\ntouch MARK\n").expect("write");
    let scripts = agent.state_dir().join("scripts");
    std::fs::create_dir_all(&scripts).expect("make a folder");
    std::os::unix::fs::symlink(&outside, scripts.join("link.sh")).expect("link");
    for path in ["../outside.sh", "link.sh", outside.to_str().expect("text"), "x/../../outside.sh"]
    {
        let manifest = json!({"scripts": [{"name": "x", "path": path}]});
        agent.write_manifest(&manifest.to_string());
        let run = fixture.api.execute_anyway(&id, json!({"script": "x"})).await;
        let ended = fixture.api.finished(&run).await;
        assert_ne!(ended["state"], "succeeded", "{path}: {ended}");
    }
    assert_no_mark(&fixture);
}

/// Rundeck put values of options into commands, logs and documents.
#[tokio::test]
async fn rundeck_injection_a_parameter_is_a_value_wherever_it_goes() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) = printing_agent(&fixture).await;
    let data = json!({"parameters": {"VALUE": HOSTILE}});
    let run = fixture.api.execute(&id, "print", data).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    // As it was sent, once, and no word of it as an argument.
    assert_eq!(fixture.api.output(&run).await, HOSTILE.as_bytes());
    let stored = fixture.api.command(&run).await;
    assert_eq!(stored["data"]["parameters"]["VALUE"], HOSTILE, "{stored}");
    for log in [fixture.server.log(), agent.log()] {
        assert!(!log.contains("touch MARK"), "a value is in a log: {log}");
    }
    let log = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(!log.contains("touch MARK"), "a value is in the audit log: {log}");
    // What programs read instead of people stays one document.
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let shown: Value = cli.run(&["commands", "show", &run, "--json"]).await.json();
    assert_eq!(shown["data"]["parameters"]["VALUE"], HOSTILE);
    // Variables that make programs run others are no parameters.
    for name in ["LD_PRELOAD", "BASH_ENV", "PATH", "IFS", "A=B", "TAR_OPTIONS", "x;y", ""] {
        let data = json!({"script": "print", "parameters": {name: "x"}});
        let refused = fixture.api.try_execute(&id, data).await;
        assert_eq!(refused.status, 422, "{name}: {}", refused.json());
    }
    assert_no_mark(&fixture);
}
