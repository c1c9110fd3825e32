//! Everything that goes through nginx, set up with the block of docs/SERVER.md.

use muster_tests::{
    AgentOptions, Api, Authority, Cli, Database, Fixture, JsonFields as _, LiveStream, Nginx,
    Script, ServerOptions, TestDir, Upgrades, free_port,
};
use serde_json::json;

#[tokio::test]
async fn agents_people_and_installations_pass_the_documented_nginx() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let port = free_port();
    // What the page describes beside the block.
    let options = ServerOptions::default()
        .with("MUSTER_PUBLIC_URL", format!("https://localhost:{port}"))
        .with("MUSTER_TRUSTED_PROXY", "127.0.0.1");
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let (server, certificate) = (fixture.server.address(), authority.installed());
    let nginx = Nginx::start_on(port, &fixture.test_dir, &server, &certificate, Upgrades::Passed);
    let url = nginx.url("localhost");
    let api = Api::trusting(&url, fixture.api.key(), Some(authority.file()));

    // Agents, by either transport, with the largest data that a command may have.
    let value = "x".repeat(60_000);
    let body = "printf %s \"$A$B$C$D$E$F$G$H\" | wc -c";
    let script = Script::new("count", body).taking(["A", "B", "C", "D", "E", "F", "G", "H"]);
    let options = |name: &str, fallback: &str| {
        let options = AgentOptions::with_scripts([script.clone()])
            .with("MUSTER_CA_FILE", authority.file().display())
            .with("MUSTER_HTTP_FALLBACK", fallback);
        AgentOptions { name: name.into(), ..options }
    };
    let (_one, one) = fixture.agent_through(&url, options("one", "0")).await;
    let (_two, two) = fixture.agent_through(&url, options("two", "only")).await;
    fixture.reached_over(&one, "websocket").await;
    fixture.reached_over(&two, "http").await;
    for id in [&one, &two] {
        let parameters = json!({"A": value, "B": value, "C": value, "D": value, "E": value,
            "F": value, "G": value, "H": value});
        let run = api.execute(id, "count", json!({"parameters": parameters})).await;
        let live = format!("/api/executions/{run}/output/live");
        let mut stream = LiveStream::open(&api, &live, "").await.expect("a live stream");
        assert_eq!(stream.expect("output").await.data["text"], "480000\n");
        assert_eq!(stream.expect("result").await.data["state"], "succeeded");
    }

    // The command line.
    let cli = Cli::new(&fixture.test_dir);
    let file = authority.file().to_str().expect("plain text");
    let login = ["login", "--server", &url, "--ca-file", file];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let agents = cli.run(&["agents", "list", "--json"]).await.json();
    assert_eq!(agents["items"].as_array().map(Vec::len), Some(2), "{agents}");

    // The audit log names the client and not the proxy.
    let audit = [("x-forwarded-for", "203.0.113.9")];
    let body = Some(json!({"name": "k"}).to_string().into_bytes());
    let made = api.try_send(reqwest::Method::POST, "/api/keys", &audit, body).await;
    made.expect("reach nginx").expect(201);
    let log = api.get("/api/audit?limit=1").await.expect(200);
    assert_eq!(log["items"][0].text("source"), "127.0.0.1", "the client's own claim was read");

    // The install line names nginx, encrypted, and its script comes through.
    let page = String::from_utf8(api.get("/install").await.bytes).expect("text");
    assert!(page.contains(&format!("{url}/install/deploy.sh")), "{page}");
    assert!(!page.contains("--insecure") && !page.contains("http://"), "{page}");
    let script = String::from_utf8(api.get("/install/deploy.sh").await.bytes).expect("text");
    assert!(script.contains(&format!("\nserver_default='{url}'\n")), "{}", script.len());
}
