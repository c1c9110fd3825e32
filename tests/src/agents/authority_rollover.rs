//! Takes a fleet of simulated agents from one authority of the server to the next, while some of them are away. No agent
//! that was online during the rollover may be lost, and those that were not must be known by name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::agents::certified_host::CertifiedHost;
use crate::agents::fake_agent::FakeAgent;
use crate::fixture::Fixture;
use crate::json::JsonFields as _;
use crate::servers::authority::try_connect;
use crate::wait::eventually;

/// Hosts that connect at once.
const AT_ONCE: usize = 16;

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityRollover {
    pub hosts: usize,
    /// Of so many hosts, one is away when the new authority is announced.
    pub away_of: usize,
}

/// The result and how long each part took.
#[derive(Debug, Clone)]
pub struct AuthorityRolloverReport {
    pub hosts: usize,
    pub returned: usize,
    pub stranded: usize,
    /// From the announcement until all agents that are online have confirmed it.
    pub announcement: Duration,
    /// From the retirement until all agents are connected again.
    pub reconnection: Duration,
}

impl fmt::Display for AuthorityRolloverReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} agents: the announcement took {:.1} s, the reconnection of all {:.1} s; {} returned by the proof, {} \
             that stayed away were named and must be installed again",
            self.hosts,
            self.announcement.as_secs_f64(),
            self.reconnection.as_secs_f64(),
            self.returned,
            self.stranded,
        )
    }
}

/// A simulated host that stores the authority of its server.
struct RolloverHost {
    host: CertifiedHost,
    session: Option<FakeAgent>,
}

impl AuthorityRollover {
    /// Runs the rollover on a server that issues its certificate itself and requires certificates of agents.
    ///
    /// # Panics
    /// If an agent is lost, or a step is permitted too early.
    pub async fn run(self, fixture: &Fixture) -> AuthorityRolloverReport {
        let files = Files::new(fixture);
        let address = fixture.server.address();
        let (_, key) = fixture.api.agent_key(json!({"max_agents": self.hosts})).await;
        let mut hosts: Vec<RolloverHost> = stream::iter(0..self.hosts)
            .map(async |number| {
                let mut host = CertifiedHost::new().named(&format!("host-{number:04}")).following();
                host.enrol(&files.old, &address, &key).await;
                let session = host.session(&files.old, &address, &key).await;
                // The connection of a host that is away ends here.
                let is_away = number % self.away_of == 0;
                RolloverHost { host, session: (!is_away).then_some(session) }
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let online = hosts.iter().filter(|host| host.session.is_some()).count();

        let away = self.hosts - online;
        eventually("the hosts that are away are offline", async || {
            (rollover(fixture).await["offline_unconfirmed_count"] == away).then_some(())
        })
        .await;

        let begun = Instant::now();
        step(fixture, "announce", false, 200).await;
        let notices: Vec<Value> = stream::iter(&mut hosts)
            .filter_map(async |host| host.session.as_mut().map(|session| (&mut host.host, session)))
            .map(async |(host, session)| host.follow(session).await)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        assert_eq!(notices.len(), online);
        files.write_new(&notices[0]);
        confirmed(fixture, online).await;
        let announcement = begun.elapsed();
        // The agents that are away are known, and the end is refused because of them.
        let status = rollover(fixture).await;
        assert_eq!(status["offline_unconfirmed_count"], away, "{status}");
        step(fixture, "retire", true, 409).await;
        step(fixture, "switch", false, 200).await;

        // Half of them return, and trust only the former authority. The other half stays away.
        let mut returned = 0;
        for host in hosts.iter_mut().filter(|host| host.session.is_none()).take(away.div_ceil(2)) {
            let mut session = host.host.connect(&files.old, &address, &key).await;
            session.expect("connected").await;
            session.register(host.host.registration()).await;
            // A certificate of the new authority, then the notice.
            host.host.keep(&mut session).await;
            host.host.follow(&mut session).await;
            session.send(json!({"type": "inventory_end"})).await;
            host.session = Some(session);
            returned += 1;
        }
        confirmed(fixture, online + returned).await;
        let stranded = away - returned;
        let status = rollover(fixture).await;
        assert_eq!(status["online_unconfirmed_count"], 0, "{status}");
        assert_eq!(status["agents"].as_array().map(Vec::len), Some(stranded), "{status}");
        if stranded > 0 {
            let refused = step(fixture, "retire", false, 409).await;
            assert_eq!(refused["code"], "agents_unconfirmed", "{refused}");
            assert!(refused.text("detail").contains("host-"), "{refused}");
        }
        step(fixture, "retire", true, 200).await;

        let begun = Instant::now();
        for host in &mut hosts {
            host.reconnect(&files, &address, &key).await;
        }
        let reconnection = begun.elapsed();
        let status = rollover(fixture).await;
        assert_eq!(
            status["online_unconfirmed_count"],
            online + returned,
            "all are connected: {status}"
        );
        AuthorityRolloverReport {
            hosts: self.hosts,
            returned,
            stranded,
            announcement,
            reconnection,
        }
    }
}

impl RolloverHost {
    /// Connects again after the end of the rollover, if the host has the new authority; otherwise it must fail.
    async fn reconnect(&mut self, files: &Files, address: &str, key: &str) {
        if self.session.take().is_none() {
            let refused = try_connect(&files.old, address).await;
            assert!(refused.is_err(), "the retired authority still leads to the server");
            return;
        }
        // The certificate may be one of the retired authority, which counts as none.
        let mut session = self.host.connect(&files.new, address, key).await;
        session.expect("connected").await;
        session.register(self.host.registration()).await;
        let mut is_enrolment = false;
        loop {
            let frame = session.next().await.expect("a frame of the session");
            match frame["type"].as_str() {
                Some("certificate") => {
                    self.host.certificate = frame["certificate"].as_str().map(str::to_owned);
                    is_enrolment = true;
                }
                // The last notice: it names the retired authority.
                Some("authorities") => {
                    assert_eq!(frame["retired"].as_array().map(Vec::len), Some(1), "{frame}");
                    break;
                }
                _ => {}
            }
        }
        if is_enrolment {
            session.expect("drain").await;
            assert_eq!(session.closed().await.code, 1001);
            session = self.host.session(&files.new, address, key).await;
        } else {
            session.send(json!({"type": "inventory_end"})).await;
        }
        self.session = Some(session);
    }
}

/// The authorities as files.
struct Files {
    old: PathBuf,
    new: PathBuf,
}

impl Files {
    fn new(fixture: &Fixture) -> Self {
        let folder = fixture.test_dir.folder("authorities");
        let old = folder.join("old.pem");
        let served = fixture.server.data_dir().join("ca.pem");
        std::fs::copy(served, &old).expect("copy the authority");
        Self { old, new: folder.join("new.pem") }
    }

    /// Writes the authority of a notice.
    fn write_new(&self, notice: &Value) {
        let body = notice.text("certificate");
        assert!(BASE64.decode(body.as_bytes()).is_ok(), "{notice}");
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        std::fs::write(&self.new, pem).expect("write the authority");
        assert!(Path::new(&self.new).exists());
    }
}

/// The rollover as the operator sees it.
async fn rollover(fixture: &Fixture) -> Value {
    // A new client trusts what the server's directory has now.
    fixture.server.api().get("/api/certificates/rollover").await.expect(200)
}

async fn step(fixture: &Fixture, action: &str, force: bool, status: u16) -> Value {
    let body = json!({"action": action, "force": force});
    fixture.api.post("/api/certificates/rollover", body).await.expect(status)
}

async fn confirmed(fixture: &Fixture, count: usize) {
    eventually("the agents have confirmed the new authority", async || {
        let status = rollover(fixture).await;
        (status["confirmed_count"] == count).then_some(())
    })
    .await;
}
