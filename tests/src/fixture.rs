//! The start of most tests: a directory, a server on one of the databases, and its first key.

use serde_json::{Value, json};

use crate::agents::agent::{Agent, AgentOptions};
use crate::clients::api::Api;
use crate::clients::cli::Cli;
use crate::databases::cluster::PostgresCluster;
use crate::databases::database::PostgresDatabase;
use crate::json::JsonFields as _;
use crate::processes::test_dir::TestDir;
use crate::servers::server::{Database, Server, ServerOptions};
use crate::wait::eventually;

/// A running server, to which agents can be added.
#[derive(Debug)]
pub struct Fixture {
    pub api: Api,
    pub server: Server,
    pub test_dir: TestDir,
}

impl Fixture {
    /// A server on a database file.
    pub async fn on_sqlite() -> Self {
        Self::with(ServerOptions::default()).await
    }

    /// A server on a PostgreSQL database.
    pub async fn on_postgres() -> Self {
        let database = Database::Postgres(PostgresDatabase::empty());
        Self::on(TestDir::new(), database, ServerOptions::default()).await
    }

    /// A server on a PostgreSQL cluster for this test alone, for tests that stop it.
    pub async fn on_cluster() -> Self {
        let test_dir = TestDir::new();
        let database = Database::Cluster(PostgresCluster::start(&test_dir));
        Self::on(test_dir, database, ServerOptions::default()).await
    }

    /// A server on a database file with these options.
    pub async fn with(options: ServerOptions) -> Self {
        Self::on(TestDir::new(), Database::Sqlite, options).await
    }

    /// A server on this database with these options.
    pub async fn on(test_dir: TestDir, database: Database, options: ServerOptions) -> Self {
        let server = Server::start(&test_dir, database, options);
        server.ready().await;
        Self { api: server.api(), server, test_dir }
    }

    /// A server that was given its first key.
    pub async fn with_first_key(options: ServerOptions, key: &str) -> Self {
        let test_dir = TestDir::new();
        let options = options.with("MUSTER_BOOTSTRAP_KEY", key);
        let server = Server::start(&test_dir, Database::Sqlite, options);
        let api = Api::new(&server.url(), key);
        Self { api, server, test_dir }
    }

    /// Starts an agent with its own key and waits until it is online. Returns the agent and its id.
    pub async fn agent(&self, options: AgentOptions) -> (Agent, String) {
        self.agent_through(&self.server.url(), options).await
    }

    /// [`Fixture::agent`] through another address of the server.
    pub async fn agent_through(&self, url: &str, options: AgentOptions) -> (Agent, String) {
        let (key_id, key) = self.api.agent_key(json!({"permissions": ALL})).await;
        let agent = Agent::start(&self.test_dir, url, &key, options);
        let id = self.reported(&key_id).await.id().to_owned();
        (agent, id)
    }

    /// The command line of a user who has logged in with the first key.
    pub async fn cli(&self) -> Cli {
        let cli = Cli::new(&self.test_dir);
        let login = ["login", "--server", &self.server.url()];
        cli.run_with_input(&login, self.api.key()).await.expect(0);
        cli
    }

    /// Waits until the only agent of this key is online, and returns it.
    pub async fn online(&self, key_id: &str) -> Value {
        self.with_status(key_id, "online").await
    }

    /// Waits until the only agent of this key has the status, and returns it.
    pub async fn with_status(&self, key_id: &str, status: &str) -> Value {
        eventually(&format!("the agent of key {key_id} is {status}"), async || {
            let agents = self.agents_of(key_id).await;
            assert!(agents.len() < 2, "more than one agent: {agents:?}");
            agents.into_iter().find(|agent| agent["status"] == status)
        })
        .await
    }

    /// The agents of this key.
    pub async fn agents_of(&self, key_id: &str) -> Vec<Value> {
        let Ok(answer) =
            self.api.try_send(reqwest::Method::GET, "/api/agents?limit=500", &[], None).await
        else {
            return vec![];
        };
        let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|agent| agent["key_id"] == key_id).collect()
    }

    /// Waits until the only agent of this key is online and has reported its scripts and its policy, and returns it.
    ///
    /// Agents report them after they registered. Until then the server accepts work that they may refuse.
    pub async fn reported(&self, key_id: &str) -> Value {
        eventually(&format!("the agent of key {key_id} has reported its scripts"), async || {
            let agent = self.online(key_id).await;
            let path = format!("/api/agents/{}/scripts", agent.id());
            let scripts = self.api.get(&path).await.expect(200);
            (scripts["reported_at"].is_string() && agent["policy"].is_string()).then_some(agent)
        })
        .await
    }

    /// Waits until the agent is online over this transport.
    pub async fn reached_over(&self, agent: &str, transport: &str) {
        let path = format!("/api/agents/{agent}");
        eventually(&format!("agent {agent} is reached over {transport}"), async || {
            let answer = self.api.try_send(reqwest::Method::GET, &path, &[], None).await.ok()?;
            let shown = answer.json();
            (shown["status"] == "online" && shown["transport"] == transport).then_some(())
        })
        .await;
    }

    /// Sends a transient command and returns the answer's body.
    pub async fn ask(&self, agent: &str, command: &str, data: Value) -> Value {
        let body = json!({"command": command, "data": data});
        self.api.post(&format!("/api/agents/{agent}/command"), body).await.expect(200)
    }
}

/// All permissions.
pub const ALL: [&str; 9] =
    ["ping", "info", "echo", "scripts", "execute", "restart", "update", "redeploy", "shutdown"];
