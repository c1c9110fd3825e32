//! A store with a tenant and a key, and what a test adds.

use muster_protocol::frame::Outcome;
use muster_protocol::identity::AgentPublicKey;
use muster_server::domain::access::audit::AuditFilter;
use muster_server::domain::access::principal::ActorKind;
use muster_server::domain::access::records::AuditRecord;
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::commands::job_state::JobState;
use muster_server::domain::commands::trigger::Trigger;
use muster_server::domain::fleet::agent::Transport;
use muster_server::domain::ids::{
    AgentId, AgentKeyId, AuditId, CommandId, JobId, PrincipalId, TenantId,
};
use muster_server::domain::time::Timestamp;
use muster_server::store::Store;
use muster_server::store::entities::access::{agent_key, audit_entry};
use muster_server::store::entities::column::StringList;
use muster_server::store::entities::commands::{command, job};
use muster_server::store::queries::{AgentKeyChange, AuditRange, CommandWithReport};
use muster_server::store::writer::{
    AgentIdentity, OpenSession, OpenedSession, Report, SessionOpening, Settle, Settled,
    SubmitCommand, Submitted,
};
use muster_tests::{PostgresCluster, PostgresDatabase, TestDir};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, EntityTrait as _};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// The instant at which tests happen.
pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Where a fixture's store keeps its rows.
enum TestDatabase {
    Sqlite,
    Postgres(PostgresDatabase),
    Cluster(PostgresCluster),
}

pub struct Fixture {
    pub store: Store,
    /// Reads what the store shows to no caller.
    rows: OnceCell<DatabaseConnection>,
    pub tenant_id: TenantId,
    pub key_id: AgentKeyId,
    // After the store: dropped after it.
    database: TestDatabase,
    pub test_dir: TestDir,
}

impl Fixture {
    pub async fn sqlite() -> Self {
        let test_dir = TestDir::new();
        let url = format!("sqlite:{}", test_dir.path().join("muster.db").display());
        Self::over(test_dir, &url, TestDatabase::Sqlite).await
    }

    pub async fn postgres() -> Self {
        let test_dir = TestDir::new();
        let database = PostgresDatabase::migrated(async |url| {
            drop(Store::open(url, &test_dir.folder("template")).await.expect("migrate"));
        });
        let database = database.await;
        let url = database.url();
        Self::over(test_dir, &url, TestDatabase::Postgres(database)).await
    }

    /// On a cluster for this test alone, for tests that stop it.
    pub async fn postgres_cluster() -> Self {
        let test_dir = TestDir::new();
        let cluster = tokio::task::block_in_place(|| PostgresCluster::start(&test_dir));
        let url = cluster.url();
        Self::over(test_dir, &url, TestDatabase::Cluster(cluster)).await
    }

    async fn over(test_dir: TestDir, url: &str, database: TestDatabase) -> Self {
        let store = Store::open(url, &test_dir.folder("data")).await.expect("open the store");
        let (tenant_id, key_id) = (TenantId::new(), AgentKeyId::new());
        let fixture = Self { store, rows: OnceCell::new(), tenant_id, key_id, database, test_dir };
        fixture.make_key(tenant_id, key_id, 3).await;
        fixture
    }

    /// Of a fixture on PostgreSQL: where it is.
    pub fn postgres_url(&self) -> Option<String> {
        match &self.database {
            TestDatabase::Sqlite => None,
            TestDatabase::Postgres(database) => Some(database.url()),
            TestDatabase::Cluster(cluster) => Some(cluster.url()),
        }
    }

    fn url(&self) -> String {
        let sqlite = || format!("sqlite:{}", self.test_dir.path().join("muster.db").display());
        self.postgres_url().unwrap_or_else(sqlite)
    }

    /// The store of another server on the same database, with a writer of its own.
    pub async fn other_store(&self) -> Store {
        let folder = self.test_dir.folder("other");
        Store::open(&self.url(), &folder).await.expect("open the store")
    }

    /// A connection of the test's own.
    pub async fn rows(&self) -> &DatabaseConnection {
        let connect = async || {
            let mut options = ConnectOptions::new(self.url());
            options.max_connections(1);
            Database::connect(options).await.expect("open the database")
        };
        self.rows.get_or_init(connect).await
    }

    /// The cluster that is this fixture's alone, to stop and restart it.
    pub fn cluster(&mut self) -> &mut PostgresCluster {
        match &mut self.database {
            TestDatabase::Cluster(cluster) => cluster,
            _ => panic!("this fixture has no cluster of its own"),
        }
    }

    pub async fn make_key(&self, tenant_id: TenantId, id: AgentKeyId, max_agents: i32) {
        let row = agent_key::Model {
            id,
            tenant_id,
            name: "key".into(),
            prefix: "mst_agent_".into(),
            secret_hash: id.0.as_bytes().to_vec(),
            previous_secret_hash: None,
            previous_valid_until: None,
            permissions: StringList::default(),
            tags: StringList(vec!["web".into()]),
            max_agents,
            trusts_holders: false,
            is_disabled: false,
            created_at: NOW,
            expires_at: None,
        };
        let tenant = self.store.tenant(tenant_id);
        // A log starts with its tenant, and each tenant of a test starts with a key.
        tenant.create_agent_key(row, tenant_created(tenant_id)).await.expect("make a key");
    }

    /// Lets the key trust its holders.
    pub async fn trust_holders(&self) {
        let change = AgentKeyChange { trusts_holders: Some(true), ..AgentKeyChange::default() };
        let tenant = self.store.tenant(self.tenant_id);
        let changed = tenant.update_agent_key(self.key_id, change, audit(self.tenant_id)).await;
        changed.expect("change").expect("the key");
    }

    /// What a full agent on `machine` says of itself.
    pub fn registration(&self, machine: &str) -> OpenSession {
        self.registration_with(machine, machine)
    }

    /// The same, with the key pair of another host.
    pub fn registration_with(&self, machine: &str, key_pair: &str) -> OpenSession {
        OpenSession {
            chosen_name: String::new(),
            chosen_tags: Vec::new(),
            tenant_id: self.tenant_id,
            key_id: self.key_id,
            secret_hash: self.key_id.0.as_bytes().to_vec(),
            identity: AgentIdentity::Full {
                agent_id: None,
                public_key: public_key(key_pair),
                has_ticket: false,
                machine_id: machine.into(),
                ledger_id: Uuid::from_u128(1),
                acceptance_count: 0,
                instance_id: Uuid::from_u128(1),
                highest_epoch: 0,
            },
            hostname: machine.into(),
            ip: String::new(),
            version: String::new(),
            os: String::new(),
            arch: String::new(),
            service_manager: String::new(),
            capabilities: Vec::new(),
            policy: None,
            max_executions: 16,
            transport: Transport::Websocket,
            update_result: None,
            notice_id: None,
            now: NOW,
        }
    }

    pub async fn open(&self, registration: OpenSession) -> SessionOpening {
        self.store.writer().commit(registration).await.expect("open a session")
    }

    /// An agent that is enrolled and connected.
    pub async fn agent(&self, machine: &str) -> OpenedSession {
        match self.open(self.registration(machine)).await {
            SessionOpening::Opened(opened) => *opened,
            SessionOpening::Refused(code) => panic!("refused with {code:?}"),
        }
    }

    pub fn submission(&self, agent_id: AgentId) -> SubmitCommand {
        SubmitCommand {
            row: command::Model {
                max_log_bytes: None,
                id: CommandId::new(),
                tenant_id: self.tenant_id,
                agent_id,
                command: "execute".into(),
                data: "{}".into(),
                sealed_parameters: Some(b"sealed".to_vec()),
                state: CommandState::Queued,
                end_reason: None,
                requested_by: PrincipalId(Uuid::nil()),
                requested_from: None,
                created_at: NOW,
                expires_at: NOW.plus_ms(60_000),
                timeout_ms: 1_000,
                lost_after_ms: 10_000,
                delivered_at: None,
                started_at: None,
                finished_at: None,
                cancel_requested_at: None,
                job_id: None,
                wave: None,
                is_held: false,
                script: Some("hello".into()),
                trigger: Trigger::Api,
                capsule: None,
                attempt: 1,
                retry_of: None,
                retried_as: None,
                retried_job_id: None,
                not_before: None,
                lock_name: None,
                has_secrets: false,
                request_id: None,
                step_progress: None,
            },
            deliver_in_epoch: None,
            idempotency: None,
            audit: audit(self.tenant_id),
            approval: None,
        }
    }

    /// A command that its agent was sent in this session.
    pub async fn delivered(&self, session: &OpenedSession) -> CommandId {
        let submission = SubmitCommand {
            deliver_in_epoch: Some(session.epoch),
            ..self.submission(session.agent_id)
        };
        let id = submission.row.id;
        let submitted = self.store.writer().commit(submission).await.expect("submit");
        assert_eq!(submitted, Submitted::New { delivered: true });
        id
    }

    /// The row of a running job without executions.
    pub fn job_row(&self, id: JobId) -> job::Model {
        job::Model {
            id,
            tenant_id: self.tenant_id,
            script: "hello".into(),
            data: "{}".into(),
            secret_names: StringList::default(),
            target: "{}".into(),
            agent_count: 0,
            requested_by: PrincipalId(Uuid::nil()),
            requested_from: None,
            created_at: NOW,
            state: JobState::Running,
            finished_at: None,
            stop: None,
            webhook_url: None,
            retry_of: None,
            retries: None,
            lock_name: None,
        }
    }

    pub async fn settle(
        &self,
        session: &OpenedSession,
        command_id: CommandId,
        outcome: Outcome,
    ) -> Settled {
        self.store.writer().commit(settle(session, command_id, outcome)).await.expect("settle")
    }

    /// A command as it is stored. However it ended, its sealed parameters went then and not before.
    pub async fn command(&self, id: CommandId) -> CommandWithReport {
        let tenant = self.store.tenant(self.tenant_id);
        let found = tenant.command(id).await.expect("read").expect("the command");
        let row = command::Entity::find_by_id(id).one(self.rows().await).await.expect("read");
        let is_sealed = row.expect("the command").sealed_parameters.is_some();
        assert_eq!(is_sealed, !found.command.state.is_terminal(), "{:?}", found.command);
        found
    }

    /// The latest entries of the tenant's audit log, newest first.
    pub async fn audit_entries(&self) -> Vec<AuditRecord> {
        let (filter, range) = (AuditFilter::default(), AuditRange::Before(None));
        let tenant = self.store.tenant(self.tenant_id);
        tenant.audit_entries(&filter, range, 100).await.expect("read").entries
    }

    pub async fn state(&self, id: CommandId) -> CommandState {
        self.command(id).await.command.state
    }
}

/// The public key of a simulated host. The store compares keys and never uses them.
pub fn public_key(host: &str) -> AgentPublicKey {
    let mut bytes = [0; 32];
    for (position, character) in host.bytes().enumerate() {
        bytes[position % 32] ^= character;
    }
    AgentPublicKey::from_bytes(bytes)
}

pub fn settle(session: &OpenedSession, command_id: CommandId, outcome: Outcome) -> Settle {
    Settle {
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_id,
        report: Report {
            outcome,
            data: "{}".into(),
            error: None,
            error_code: None,
            attestation: None,
            call: None,
        },
        last_chunk_bytes: None,
        now: NOW,
    }
}

/// The entry that a log starts with.
pub fn tenant_created(tenant_id: TenantId) -> audit_entry::Model {
    let subject_id = Some(tenant_id.0);
    audit_entry::Model { action: "tenant.create".into(), subject_id, ..audit(tenant_id) }
}

pub fn audit(tenant_id: TenantId) -> audit_entry::Model {
    audit_entry::Model {
        id: AuditId::new(),
        tenant_id,
        link: 0,
        at: NOW,
        actor_kind: ActorKind::System,
        actor_id: None,
        session_id: None,
        action: "test".into(),
        subject_kind: "test".into(),
        subject_id: None,
        detail: "{}".into(),
        source: None,
    }
}
