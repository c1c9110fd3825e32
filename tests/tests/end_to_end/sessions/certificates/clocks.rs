//! Hosts whose clock is wrong: connected where that is safe, and otherwise informed how far their clock is off.

use muster_tests::{
    Agent, AgentOptions, Database, Doctor, Fixture, ServerOptions, TestDir, eventually, fake_time,
    finding,
};
use serde_json::json;

/// What moves the clock of a program by the offset in this file.
fn clock(test_dir: &TestDir, name: &str, offset: &str) -> Vec<(&'static str, String)> {
    let file = test_dir.path().join(format!("clock-{name}"));
    std::fs::write(&file, offset).expect("write the clock");
    // The file takes the place of the fixed offset.
    let moved = fake_time(offset).into_iter().filter(|(name, _)| *name != "FAKETIME");
    moved.chain([("FAKETIME_TIMESTAMP_FILE", file.display().to_string())]).collect()
}

async fn issuing() -> Fixture {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_REQUIRE_CLIENT_CERT", "agents");
    Fixture::on(test_dir, Database::Sqlite, options).await
}

fn options(fixture: &Fixture, name: &str, offset: &str) -> AgentOptions {
    let authority = fixture.server.data_dir().join("ca.pem");
    let options = AgentOptions { name: name.into(), ..AgentOptions::default() };
    let options = options.with("MUSTER_CA_FILE", authority.display());
    clock(&fixture.test_dir, name, offset)
        .into_iter()
        .fold(options, |options, (name, value)| options.with(name, value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_connects_with_certificates_while_its_clock_is_hours_or_days_off() {
    let fixture = issuing().await;
    for (name, offset) in [("slow", "-20h"), ("fast", "+9h"), ("weeks", "+20d")] {
        let (_agent, id) = fixture.agent(options(&fixture, name, offset)).await;
        fixture.reached_over(&id, "websocket").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_whose_clock_is_too_far_off_reports_by_how_much() {
    let fixture = issuing().await;
    for (name, offset, difference) in [
        ("slow", "-72h", "the clock of this host is 3 days behind the server's"),
        ("fast", "+100d", "the clock of this host is 100 days ahead of the server's"),
    ] {
        let (_, key) = fixture.api.agent_key(json!({})).await;
        let (url, test_dir) = (fixture.server.url(), &fixture.test_dir);
        let agent = Agent::start(test_dir, &url, &key, options(&fixture, name, offset));
        eventually("the log names the difference", async || {
            agent.log().contains(difference).then_some(())
        })
        .await;
        let status = agent.state_dir().join("status.json");
        eventually("the status names the difference", async || {
            let status = std::fs::read_to_string(&status).ok()?;
            status.contains(difference).then_some(())
        })
        .await;
        assert!(!agent.log().contains("registered"), "{}", agent.log());

        let authority = fixture.server.data_dir().join("ca.pem");
        let doctor = Doctor::new(test_dir, &url, &key).with("MUSTER_CA_FILE", authority.display());
        let doctor = clock(test_dir, name, offset)
            .into_iter()
            .fold(doctor, |doctor, (name, value)| doctor.with(name, value));
        let findings = doctor.findings(1).await;
        let tls = finding(&findings, "tls");
        assert!(tls["detail"].to_string().contains(difference), "{tls}");
    }
}
