//! Measures what an attacker could learn from the time of a sign-in, and how long rights outlive their end:
//! from a revocation to the end of a stream, a poll, a download and a socket. Nothing here asserts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use muster_tests::{
    ALL, Api, FakeAgent, Fixture, JsonFields as _, LiveStream, PASSWORD, ServerOptions,
};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

/// Time of sign-ins with known and unknown addresses, and from revocations to their effect
#[derive(Parser)]
struct Arguments {
    /// Sign-ins with each kind of address
    #[arg(long, default_value_t = 300)]
    sign_ins: usize,
    /// Revocations of each kind
    #[arg(long, default_value_t = 30)]
    revocations: usize,
    /// Requests of the API, alone and while passwords are guessed
    #[arg(long, default_value_t = 1_000)]
    requests: usize,
}

/// Sign-ins that the server takes in a minute for one account.
const SIGN_INS_OF_ACCOUNT: usize = 10;
/// Bytes of each entry of the log that is downloaded: more in all than the buffers of a connection hold.
const ENTRY_BYTES: usize = 100_000;
const ENTRIES: usize = 400;
/// Clients that guess passwords at once.
const GUESSERS: usize = 16;

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let options = ServerOptions::default().with("MUSTER_TRUSTED_PROXY", "127.0.0.0/8");
    let fixture = Fixture::with(options).await;
    sign_ins(&fixture, arguments.sign_ins).await;
    requests(&fixture, arguments.requests).await;
    println!("\n| from a revocation to the end of | median | longest |");
    println!("|---|---|---|");
    row("a stream of events", &streams(&fixture, arguments.revocations).await);
    row("a long poll", &polls(&fixture, arguments.revocations).await);
    row("an agent's socket", &sockets(&fixture, arguments.revocations).await);
    row("a download", &downloads(&fixture, arguments.revocations).await);
}

fn row(name: &str, times: &[Duration]) {
    let longest = times.iter().max().copied().unwrap_or_default();
    println!("| {name} | {} | {} |", shown(median(times)), shown(longest));
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Wrong passwords for accounts and for addresses that have none, in turn, each from another address.
async fn sign_ins(fixture: &Fixture, count: usize) {
    let owner = fixture.owner().await;
    let accounts = count.div_ceil(SIGN_INS_OF_ACCOUNT);
    for number in 0..accounts {
        let token = owner.invite(&format!("known-{number}@example.com"), "member").await;
        let source = format!("10.2.{}.{}", number / 250, number % 250 + 1);
        let headers = [("x-forwarded-for", source.as_str())];
        let (api, body) = (fixture.api.with_key(&token), json!({"password": PASSWORD}).to_string());
        let path = "/api/invitations/accept";
        let sent = api.try_send(Method::POST, path, &headers, Some(body.into())).await;
        sent.expect("reach the server").expect(201);
    }
    let mut attempts = 0_usize;
    let mut timed = async |email: String| {
        attempts += 1;
        let source = format!("10.1.{}.{}", attempts / 250, attempts % 250 + 1);
        let body = json!({"email": email, "password": format!("not {PASSWORD}")}).to_string();
        let headers = [("x-forwarded-for", source.as_str())];
        let api = fixture.api.with_key("");
        let started_at = Instant::now();
        let sent = api.try_send(Method::POST, "/api/auth/login", &headers, Some(body.into()));
        let answer = sent.await.expect("reach the server");
        let took = started_at.elapsed();
        answer.expect_problem(401, "wrong_sign_in");
        took
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..count {
        known.push(timed(format!("known-{}@example.com", number % accounts)).await);
        unknown.push(timed(format!("nobody-{number}@example.com")).await);
    }
    let (known, unknown) = (median(&known), median(&unknown));
    println!("| wrong password for | median of {count} |");
    println!("|---|---|");
    println!("| an account | {} |", shown(known));
    println!("| an address without an account | {} |", shown(unknown));
    println!("| ratio | {:.3} |", known.as_secs_f64() / unknown.as_secs_f64());
}

/// Requests of a program, alone and while passwords are guessed from many addresses, as fast as the server
/// answers.
async fn requests(fixture: &Fixture, count: usize) {
    let measure = async || {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let started_at = Instant::now();
            fixture.api.get("/api/agents").await.expect(200);
            times.push(started_at.elapsed());
        }
        times.sort_unstable();
        times
    };
    let alone = measure().await;
    let guesses = Arc::new(AtomicUsize::new(0));
    let mut guessers = JoinSet::new();
    for guesser in 0..GUESSERS {
        let (api, guesses) = (fixture.api.with_key(""), Arc::clone(&guesses));
        guessers.spawn(async move {
            for attempt in 0.. {
                let source = format!("10.{}.{}.{}", 10 + guesser, attempt / 250 % 250, attempt % 250 + 1);
                let body = json!({"email": format!("{guesser}-{attempt}@example.com"), "password": "a wrong password"});
                let headers = [("x-forwarded-for", source.as_str())];
                let body = Some(body.to_string().into_bytes());
                let _ = api.try_send(Method::POST, "/api/auth/login", &headers, body).await;
                guesses.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let started_at = Instant::now();
    let guessed = measure().await;
    let per_second = guesses.load(Ordering::Relaxed) as f64 / started_at.elapsed().as_secs_f64();
    guessers.shutdown().await;
    println!("\n| `GET /api/agents`, {count} times | median | p99 |");
    println!("|---|---|---|");
    let p99 = |times: &[Duration]| shown(times[times.len() * 99 / 100]);
    println!("| alone | {} | {} |", shown(median(&alone)), p99(&alone));
    println!(
        "| while {GUESSERS} clients guess passwords ({per_second:.0} answers a second) | {} | {} |",
        shown(median(&guessed)),
        p99(&guessed)
    );
}

/// A key of a program, and its id.
async fn key(fixture: &Fixture) -> (Api, String) {
    let body = json!({"name": "measured", "role": "owner"});
    let made = fixture.api.post("/api/keys", body).await.expect(201);
    (fixture.api.with_key(made.text("key")), made.id().to_owned())
}

async fn revoke(fixture: &Fixture, id: &str) -> Instant {
    fixture.api.delete(&format!("/api/keys/{id}")).await.expect(200);
    Instant::now()
}

async fn streams(fixture: &Fixture, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        let (api, id) = key(fixture).await;
        let mut stream = LiveStream::open(&api, "/api/events", "").await.expect("a stream");
        stream.expect("ready").await;
        let end = tokio::spawn(async move {
            while stream.next().await.is_some() {}
            Instant::now()
        });
        let revoked_at = revoke(fixture, &id).await;
        times.push(end.await.expect("no panic").saturating_duration_since(revoked_at));
    }
    times
}

async fn polls(fixture: &Fixture, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        let (api, id) = key(fixture).await;
        let path = "/api/agents/connected?name=nobody&wait_ms=60000";
        let end = tokio::spawn(async move {
            let answer = api.get(path).await;
            (answer.status, Instant::now())
        });
        // Long enough that the poll waits.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let revoked_at = revoke(fixture, &id).await;
        let (status, ended_at) = end.await.expect("no panic");
        assert_eq!(status, 401, "the poll ended before the revocation");
        times.push(ended_at.saturating_duration_since(revoked_at));
    }
    times
}

async fn sockets(fixture: &Fixture, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let (id, secret) = fixture.api.agent_key(json!({"permissions": ALL})).await;
        let name = format!("measured-{number}");
        let mut agent = FakeAgent::registered(&fixture.server.address(), &secret, &name).await;
        let end = tokio::spawn(async move {
            agent.closed().await;
            Instant::now()
        });
        fixture.api.delete(&format!("/api/agents/keys/{id}")).await;
        let revoked_at = Instant::now();
        times.push(end.await.expect("no panic").saturating_duration_since(revoked_at));
    }
    times
}

/// With what was on its way when the key was revoked.
async fn downloads(fixture: &Fixture, count: usize) -> Vec<Duration> {
    for number in 0..ENTRIES {
        let body = json!({"name": format!("tenant {number}")});
        fixture.api.patch("/api/tenant", body).await.expect(200);
    }
    let text = "x".repeat(ENTRY_BYTES);
    fixture.server.query(&format!(
        "UPDATE audit_entries SET detail = '{{\"x\":\"{text}\"}}' WHERE action = 'tenant.update'"
    ));
    let (mut times, mut most) = (Vec::new(), 0);
    for _ in 0..count {
        let (api, id) = key(fixture).await;
        let mut response = api.stream("/api/audit/export", &[]).await.expect("an answer");
        assert_eq!(response.status(), 200, "no download");
        let mut bytes = response.chunk().await.expect("a part").map_or(0, |part| part.len());
        let revoked_at = revoke(fixture, &id).await;
        while let Ok(Some(part)) = response.chunk().await {
            bytes += part.len();
        }
        times.push(revoked_at.elapsed());
        most = most.max(bytes);
    }
    let whole = ENTRIES * ENTRY_BYTES / 1_000_000;
    println!("<!-- downloads: at most {} MB of {whole} MB -->", most / 1_000_000);
    times
}
