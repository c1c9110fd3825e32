//! `--tls auto`: the certificate that the server issues itself, over renewals, restarts, rotations and restores.

use std::process::Output;

use muster_tests::{
    Agent, AgentOptions, Database, FakeAgent, Fixture, PostgresDatabase, Secured, ServerOptions,
    TestDir, connect, eventually, shown,
};
use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;

/// A server that issues its certificate itself.
async fn issuing(database: Database) -> Fixture {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_TLS_CHECK_MS", 3_600_000);
    Fixture::on(test_dir, database, options).await
}

fn authority(fixture: &Fixture) -> String {
    std::fs::read_to_string(fixture.server.data_dir().join("ca.pem")).expect("the authority")
}

/// Connects as a client that trusts only this authority.
async fn trusting(fixture: &Fixture, authority: &str) -> Secured {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    connect(client.into(), &fixture.server.address()).await
}

/// The public key that the server proves to have.
fn public_key(connection: &Secured) -> Vec<u8> {
    let certificate = shown(connection);
    let parsed = ParsedCertificate::try_from(&certificate).expect("a certificate");
    parsed.subject_public_key_info().to_vec()
}

/// Waits until an agent has logged these words.
async fn logs(agent: &Agent, words: &str) {
    eventually(words, async || agent.log().contains(words).then_some(())).await;
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificate_of_the_server_keeps_its_key_and_drops_no_session() {
    let mut fixture = issuing(Database::Sqlite).await;
    let authority = authority(&fixture);
    let address = fixture.server.address();
    let before = trusting(&fixture, &authority).await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let connection = trusting(&fixture, &authority).await;
    let mut old = FakeAgent::registered_over(connection, &address, &key).await;
    fixture.server.process().signal(Signal::SIGHUP);
    let after = eventually("new connections are shown a new certificate", async || {
        let connection = trusting(&fixture, &authority).await;
        (shown(&connection) != shown(&before)).then_some(connection)
    })
    .await;
    assert_eq!(public_key(&after), public_key(&before));
    old.send(json!({"type": "heartbeat"})).await;
    old.expect("heartbeat_ack").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_and_pin_survive_restarts_rotations_and_restores() {
    for is_postgres in [false, true] {
        let database = match is_postgres {
            true => Database::Postgres(PostgresDatabase::empty()),
            false => Database::Sqlite,
        };
        let mut fixture = issuing(database).await;
        let made = authority(&fixture);
        let key = public_key(&trusting(&fixture, &made).await);
        let file = fixture.test_dir.path().join("backup.tar.zst");
        let file = file.to_str().expect("plain text");
        succeeded(&fixture.server.run(&["rotate-master-key"]));
        succeeded(&fixture.server.run(&["backup", file, "--with-keys"]));
        fixture.server.stop();
        let check = async |fixture: &mut Fixture| {
            fixture.server.resume();
            assert_eq!(authority(fixture), made);
            assert_eq!(public_key(&trusting(fixture, &made).await), key);
            fixture.server.stop();
        };
        check(&mut fixture).await;
        succeeded(&fixture.server.run(&["rotate-master-key"]));
        // Only the last key opens everything now.
        for left in std::fs::read_dir(fixture.server.data_dir()).expect("the data").flatten() {
            if left.file_name().to_string_lossy().contains(".previous-") {
                std::fs::remove_file(left.path()).expect("remove an old key");
            }
        }
        check(&mut fixture).await;

        std::fs::remove_dir_all(fixture.server.data_dir()).expect("lose the data");
        if is_postgres {
            fixture.server.database = Database::Postgres(PostgresDatabase::empty());
        }
        succeeded(&fixture.server.run(&["restore", file]));
        check(&mut fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_without_names_uses_those_of_its_machine_and_reports_them() {
    let fixture = issuing(Database::Sqlite).await;
    let log = fixture.server.log();
    assert!(log.contains("for the names of this machine"), "{log}");
    assert!(log.contains("127.0.0.1 localhost ::1"), "{log}");
    let (_agent, _) =
        fixture.agent(AgentOptions::default().with("MUSTER_CA_FILE", ca_file(&fixture))).await;
    let served = fixture.api.try_send(reqwest::Method::GET, "/install/ca.pem", &[], None).await;
    assert_eq!(served.expect("an answer").bytes, authority(&fixture).into_bytes());
}

fn ca_file(fixture: &Fixture) -> String {
    fixture.server.data_dir().join("ca.pem").display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_moves_to_another_name_keeps_its_agents() {
    let test_dir = TestDir::new();
    // People reach it at 0.0.0.0 all the time, agents at another address after the move.
    let named = |test_dir: &TestDir, name: &str| {
        ServerOptions::issuing(test_dir).with("MUSTER_TLS_NAMES", format!("{name},0.0.0.0"))
    };
    let options = named(&test_dir, "former.example");
    let options = options.listening("0.0.0.0:0");
    let mut fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let ca_file = fixture.server.data_dir().join("ca.pem");
    let options = AgentOptions::named("agent").with("MUSTER_CA_FILE", ca_file.display());
    let (mut agent, id) = fixture.agent(options).await;
    let made = authority(&fixture);
    let key = public_key(&trusting(&fixture, &made).await);
    let port = fixture.server.address().rsplit(':').next().expect("a port").to_owned();
    agent.stop();
    agent.set("MUSTER_SERVER_URL", Some(&format!("https://127.0.0.2:{port}")));
    agent.resume();
    logs(&agent, "is not valid for 127.0.0.2").await;
    fixture.server.stop();
    fixture.server.resume_with(named(&fixture.test_dir, "127.0.0.2"));
    assert_eq!(authority(&fixture), made);
    assert_eq!(public_key(&trusting(&fixture, &made).await), key, "the pin stays");
    fixture.reached_over(&id, "websocket").await;
    let list = fixture.api.get("/api/agents").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_lost_its_master_key_starts_over_and_only_reinstalled_hosts_follow() {
    let mut fixture = issuing(Database::Sqlite).await;
    let folder = fixture.test_dir.folder("authorities");
    let former = folder.join("former.pem");
    std::fs::copy(fixture.server.data_dir().join("ca.pem"), &former).expect("copy");
    let options = AgentOptions::named("agent").with("MUSTER_CA_FILE", former.display());
    let (mut agent, _) = fixture.agent(options).await;
    fixture.server.stop();
    std::fs::remove_file(fixture.server.data_dir().join("master.key")).expect("lose the key");
    let mut refused = fixture.server.spawn();
    assert!(!refused.ended().await.success());
    assert!(refused.log().contains("from a backup"), "{}", refused.log());

    // What docs/CERTIFICATES.md says: an empty database.
    std::fs::remove_dir_all(fixture.server.data_dir()).expect("start over");
    fixture.server.resume();
    fixture.server.ready().await;
    fixture.api = fixture.server.api();
    logs(&agent, "MUSTER_CA_FILE").await;
    assert_eq!(fixture.api.get("/api/agents").await.expect(200)["items"], json!([]));
    agent.stop();
    let next = folder.join("next.pem");
    std::fs::copy(fixture.server.data_dir().join("ca.pem"), &next).expect("copy");
    let options = AgentOptions::named("again").with("MUSTER_CA_FILE", next.display());
    fixture.agent(options).await;
}
