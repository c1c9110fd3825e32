//! The identity of a simulated agent and the facts that it reports.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use muster_protocol::frame::{AgentFrame, Registration};
use muster_protocol::identity::{AgentKeyPair, CERTIFICATE_CAPABILITY, Challenge};
use muster_protocol::limits::DEFAULT_MAX_EXECUTIONS;
use muster_protocol::manifest::{Manifest, Script};
use muster_protocol::parameter::{AcceptedParameters, ParameterDeclaration};
use muster_protocol::{CommandName, PROTOCOL_VERSION};
use rustls::ClientConfig;
use rustls::client::Resumption;
use uuid::Uuid;

use crate::process::showing;

/// The state that a real agent stores in its state directory.
#[derive(Debug)]
pub struct Identity {
    name: String,
    machine_id: Uuid,
    ledger_id: Uuid,
    instance_id: Uuid,
    /// Its own TLS session tickets.
    pub tls: Option<Arc<ClientConfig>>,
    pub agent_id: Option<Uuid>,
    pub highest_epoch: u64,
    pub acceptance_count: u64,
    /// Over mutual TLS.
    pub stores_certificate: bool,
    /// It has a certificate, and shows it.
    pub has_certificate: bool,
    key_pair: AgentKeyPair,
    /// PKCS #8.
    private_key: Vec<u8>,
}

impl Identity {
    /// A new identity with the given TLS configuration.
    ///
    /// # Errors
    /// If the system provides no randomness.
    pub fn new(index: usize, trust: Option<&ClientConfig>) -> Result<Self> {
        let tls = trust.map(|trust| {
            let mut own = trust.clone();
            own.resumption = Resumption::in_memory_sessions(1);
            Arc::new(own)
        });
        let private_key = AgentKeyPair::generate()?;
        Ok(Self {
            tls,
            name: format!("host-{index:05}"),
            machine_id: Uuid::new_v4(),
            ledger_id: Uuid::new_v4(),
            instance_id: Uuid::new_v4(),
            agent_id: None,
            highest_epoch: 0,
            acceptance_count: 0,
            stores_certificate: false,
            has_certificate: false,
            key_pair: AgentKeyPair::read(&private_key)?,
            private_key: private_key.to_vec(),
        })
    }

    /// Shows this certificate, base64, from the next connection on.
    ///
    /// # Errors
    /// If the certificate or the authority can't be used.
    pub fn show(&mut self, certificate: &str, authority: &Path) -> Result<()> {
        let mut own = showing(authority, certificate, &self.private_key)?;
        own.resumption = Resumption::in_memory_sessions(1);
        self.tls = Some(Arc::new(own));
        self.has_certificate = true;
        Ok(())
    }

    /// The `register` frame, with the proof for a connection.
    pub fn register(&self, challenge: &Challenge, agent_key_id: Uuid) -> String {
        let data = Registration {
            update: None,
            agent_id: self.agent_id.map(|id| id.to_string()),
            hostname: self.name.clone(),
            ip: "127.0.0.1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            os: "Linux (Debian GNU/Linux 12)".into(),
            capabilities: CommandName::ALL
                .iter()
                .map(|name| name.as_str())
                .chain(self.stores_certificate.then_some(CERTIFICATE_CAPABILITY))
                .map(str::to_owned)
                .collect(),
            protocol: Some(PROTOCOL_VERSION),
            arch: Some("x86_64".into()),
            ledger_id: Some(self.ledger_id),
            acceptance_count: Some(self.acceptance_count),
            machine_id: Some(self.machine_id.simple().to_string()),
            instance_id: Some(self.instance_id),
            highest_epoch: Some(self.highest_epoch),
            max_executions: Some(DEFAULT_MAX_EXECUTIONS),
            policy: Some("manifest".into()),
            public_key: None,
            proof: None,
            ticket: None,
            has_certificate: self.has_certificate,
            name: None,
            tags: Vec::new(),
            authorities_id: None,
            service_manager: None,
        };
        let data = data.prove(&self.key_pair, challenge, agent_key_id);
        text(&AgentFrame::Register { data: Box::new(data) })
    }

    /// The manifest of a new host.
    pub fn manifest() -> String {
        let script = Script {
            name: "hello".into(),
            path: "hello.sh".into(),
            interpreter: Some("/bin/sh".into()),
            args: Vec::new(),
            parameters: AcceptedParameters::Declared(vec![ParameterDeclaration {
                name: "NAME".into(),
                required: false,
                default: Some("world".into()),
                choices: Vec::new(),
                secret: false,
                description: Some("Who is greeted".into()),
            }]),
            secrets: Default::default(),
            stdin: false,
            timeout_ms: Some(60_000),
            sha256: None,
            description: Some("Greets, with the host's name and the date".into()),
        };
        text(&AgentFrame::Manifest {
            manifest: Manifest { scripts: vec![script] },
            error: None,
            policy: None,
            forbidden_commands: Vec::new(),
        })
    }

    /// The inventory of an empty ledger.
    pub fn inventory() -> [String; 2] {
        [text(&AgentFrame::Inventory { items: Vec::new() }), text(&AgentFrame::InventoryEnd)]
    }
}

fn text(frame: &AgentFrame) -> String {
    serde_json::to_string(frame).unwrap_or_default()
}
