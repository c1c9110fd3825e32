//! What one address may do, directly and behind a proxy.

use std::net::{IpAddr, Ipv4Addr};

use muster_tests::{
    ALL, Closed, FakeAgent, Fixture, JsonFields as _, ServerOptions, eventually, eventually_shown,
};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// More than the unknown keys that one source may present at once, and what it earns meanwhile.
const MANY: usize = 10_000;

/// Another address of this machine.
fn source(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

async fn connection(fixture: &Fixture, from: IpAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("bind");
    let address = fixture.server.address().parse().expect("an address");
    socket.connect(address).await.expect("reach the server")
}

async fn status(fixture: &Fixture, client: &Client, path: &str, key: &str) -> (u16, Value) {
    let url = format!("{}{path}", fixture.server.url());
    let response = client.get(url).bearer_auth(key).send().await.expect("reach the server");
    let status = response.status().as_u16();
    assert_eq!(response.headers().contains_key("retry-after"), status == 429);
    (status, response.json().await.expect("JSON"))
}

fn client(from: IpAddr) -> Client {
    Client::builder().no_proxy().local_address(from).build().expect("make a client")
}

#[tokio::test]
async fn connections_of_one_source_are_limited_and_those_of_others_are_not() {
    let options = ServerOptions::default().with("MUSTER_MAX_CONNECTIONS_PER_SOURCE", 8);
    let fixture = Fixture::with(options).await;
    let answer = async |from: IpAddr| {
        let mut stream = connection(&fixture, from).await;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(connection(&fixture, source(2)).await);
    }
    let refused = answer(source(2)).await;
    assert!(
        refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 5"),
        "{refused}"
    );
    let (_, body) = refused.split_once("\r\n\r\n").expect("a body");
    let problem: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(problem["code"], "too_many_connections");
    assert!(answer(source(3)).await.contains(" 200 "));
    open.pop();
    eventually("the place of the one that left is free", async || {
        answer(source(2)).await.contains(" 200 ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn source_that_guesses_keys_is_refused_and_known_keys_and_other_sources_are_not() {
    let fixture = Fixture::on_sqlite().await;
    let (guesser, other) = (client(source(2)), client(source(3)));
    fixture.api.get("/api/agents").await.expect(200);
    let unknown = |index: usize| format!("mst_live_{index:043}");
    let mut guesses = 0;
    let problem = loop {
        let (status, body) = status(&fixture, &guesser, "/api/agents", &unknown(guesses)).await;
        if status == 429 {
            break body;
        }
        assert_eq!((status, &body["code"]), (401, &json!("invalid_api_key")), "{body}");
        guesses += 1;
        assert!(guesses < MANY, "nothing bounds them");
    };
    assert_eq!(problem["code"], "too_many_unknown_keys", "{problem}");
    assert!(guesses >= 1_000, "refused after {guesses}");
    // A slow machine may have forgotten the key during the guesses.
    fixture.api.get("/api/agents").await.expect(200);
    let (known, _) = status(&fixture, &guesser, "/api/agents", fixture.api.key()).await;
    assert_eq!(known, 200, "a key that is in use is not looked up");
    assert_eq!(status(&fixture, &other, "/api/agents", &unknown(0)).await.0, 401);
    // Agents present keys, too.
    let path = "/api/agents/poll";
    eventually_shown("an agent key is refused", async || {
        for index in 0..50 {
            let key = format!("mst_agent_{index:043}");
            let (status, body) = status(&fixture, &guesser, path, &key).await;
            if status == 429 {
                return if body["code"] == "too_many_unknown_keys" { Ok(()) } else { Err(body) };
            }
        }
        Err(Value::Null)
    })
    .await;
    // After a moment the source may try again.
    eventually("it is heard again", async || {
        let (status, _) = status(&fixture, &guesser, "/api/agents", &unknown(0)).await;
        (status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn socket_of_a_source_that_guesses_keys_is_asked_to_come_back_later() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let unknown = format!("mst_agent_{}", "x".repeat(43));
    let guesser = fixture.api.with_key(&unknown);
    eventually("the source has guessed too often", async || {
        let guesses = (0..200).map(|_| guesser.get("/api/agents/poll"));
        let answers = futures_util::future::join_all(guesses).await;
        let is_refused = answers.iter().any(|answer| answer.status == 429);
        let mut agent = FakeAgent::connect(&fixture.server.address(), &unknown).await;
        let closed = agent.closed().await;
        (is_refused && closed == Closed::new(1013, "try_again_later")).then_some(())
    })
    .await;
    // Valid keys are not counted, so the fleet behind the same address connects.
    eventually("a valid agent is admitted", async || {
        let mut agent = FakeAgent::connect(&fixture.server.address(), &key).await;
        agent.next().await.is_ok().then_some(())
    })
    .await;
}

/// The address of the client that made the last entry of the audit log.
async fn audited_source(fixture: &Fixture, forwarded_for: &str) -> Value {
    let body = Some(json!({"name": "k"}).to_string().into_bytes());
    let headers = [("x-forwarded-for", forwarded_for)];
    let made = fixture.api.try_send(reqwest::Method::POST, "/api/keys", &headers, body).await;
    made.expect("reach the server").expect(201);
    let log = fixture.api.get("/api/audit?limit=1").await.expect(200);
    assert_eq!(log["items"][0].text("action"), "api_key.create");
    log["items"][0]["source"].clone()
}

#[tokio::test]
async fn only_a_trusted_proxy_says_where_a_client_is() {
    let mut fixture = Fixture::on_sqlite().await;
    assert_eq!(audited_source(&fixture, "198.51.100.7").await, "127.0.0.1");
    fixture.server.stop();
    let options = ServerOptions::default().with("MUSTER_TRUSTED_PROXY", "10.0.0.0/8, 127.0.0.1");
    fixture.server.resume_with(options);
    fixture.server.ready().await;
    assert_eq!(audited_source(&fixture, "198.51.100.7").await, "198.51.100.7");
    // What the client wrote itself is in front of what the proxies appended.
    let forged = "203.0.113.1, 198.51.100.7, 10.9.9.9";
    assert_eq!(audited_source(&fixture, forged).await, "198.51.100.7");
}
