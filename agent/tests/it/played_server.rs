//! A server that a test plays by hand, over a link in memory.

use crate::support::{Host, PATIENCE, program};
use muster_agent::agent::{Agent, HostLimits};
use muster_agent::commands::execute::OutputLimits;
use muster_agent::identity::key::KeyRing;
use muster_agent::link::memory::{ServerEnd, pair};
use muster_agent::link::{Incoming, Outgoing};
use muster_agent::sessions::{self, SessionOutcome};
use muster_protocol::frame::output::{decode_frame, records_of};
use muster_protocol::frame::{
    Ack, AgentFrame, Command, InventoryItem, Receipt, Registered, Registration, Response,
    ServerFrame, decode_agent_frame,
};
use muster_protocol::identity::Challenge;
use muster_protocol::{CommandName, Permissions};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub const AGENT_ID: Uuid = Uuid::from_u128(0xa9e27);

pub fn open_agent(host: &Host) -> Agent {
    open_agent_with(host, 4)
}

pub fn open_agent_with(host: &Host, max_executions: u32) -> Agent {
    let keys = KeyRing::load("mst_agent_test".to_owned().into(), &host.state).expect("keys");
    let output = OutputLimits { limit_bytes: 1 << 30, quota_bytes: 5 << 30 };
    let limits = HostLimits { max_executions, output, applies_desired_version: true };
    Agent::open(host.state.clone(), keys, limits, program()).expect("agent")
}

/// The first frame of a server.
pub fn connected(permissions: Permissions) -> ServerFrame {
    ServerFrame::Connected {
        message: "hello".into(),
        agent_key_id: Uuid::from_u128(1),
        permissions,
        timestamp: "2026-01-01T00:00:00Z".into(),
        challenge: Some(Challenge::from_bytes([1; 32])),
    }
}

/// The server's answer to a registration.
pub fn registered(epoch: u64) -> ServerFrame {
    ServerFrame::Registered(Box::new(Registered {
        agent_id: AGENT_ID,
        epoch,
        heartbeat_interval_ms: 30_000,
        max_output_bytes: None,
        server_restored: false,
        server_version: "0".into(),
        desired_version: None,
        timestamp: "2026-01-01T00:00:00Z".into(),
        ticket: None,
        tags_ignored: false,
        accepts_facts: true,
    }))
}

/// A server, played by hand.
pub struct Server {
    pub end: ServerEnd,
    pub session: JoinHandle<(Agent, SessionOutcome)>,
    stop: watch::Sender<bool>,
    pub epoch: u64,
}

impl Server {
    pub fn meet(agent: Agent) -> Self {
        Self::meet_with(agent, false)
    }

    /// In the last session of a host that leaves.
    pub fn meet_leaving(agent: Agent) -> Self {
        Self::meet_with(agent, true)
    }

    fn meet_with(mut agent: Agent, is_deregistering: bool) -> Self {
        let (link, end) = pair();
        let (stop, mut stopped) = watch::channel(false);
        let session = tokio::spawn(async move {
            let link = Box::new(link);
            let ended = match is_deregistering {
                true => sessions::run_deregistration(link, &mut agent, &mut stopped).await,
                false => sessions::run(link, &mut agent, &mut stopped, None).await,
            };
            (agent, ended)
        });
        Self { end, session, stop, epoch: 1 }
    }

    pub async fn send(&self, frame: ServerFrame) {
        let text = serde_json::to_string(&frame).expect("plain data");
        self.end.to_agent.send(Incoming::Text(text)).await.expect("the agent listens");
    }

    pub async fn next(&mut self) -> Outgoing {
        let next = tokio::time::timeout(PATIENCE, self.end.from_agent.recv()).await;
        next.expect("a frame comes").expect("the session continues")
    }

    /// The next text frame that is no heartbeat.
    pub async fn frame(&mut self) -> AgentFrame {
        loop {
            if let Outgoing::Text(text) = self.next().await {
                let frame = decode_agent_frame(&text).expect("a frame of the protocol");
                if !matches!(frame, AgentFrame::Heartbeat(_)) {
                    return frame;
                }
            }
        }
    }

    pub async fn connect(&mut self, permissions: Permissions) -> Registration {
        self.send(connected(permissions)).await;
        let AgentFrame::Register { data } = self.frame().await else { panic!("register is first") };
        self.send(registered(self.epoch)).await;
        *data
    }

    /// Greets and takes the inventory.
    pub async fn greet(&mut self) -> (Registration, Vec<InventoryItem>) {
        let registration = self.connect(Permissions::new(CommandName::ALL)).await;
        let AgentFrame::Manifest { .. } = self.frame().await else { panic!("manifest is next") };
        let mut inventory = Vec::new();
        loop {
            match self.frame().await {
                AgentFrame::Inventory { items } => inventory.extend(items),
                AgentFrame::InventoryEnd => return (registration, inventory),
                other => panic!("{other:?} before the end of the inventory"),
            }
        }
    }

    pub async fn command(&self, command_id: Uuid, command: &str, data: Value) {
        self.send(ServerFrame::Command(Box::new(Command {
            command_id,
            command: command.into(),
            data,
            timestamp: "2026-01-01T00:00:00Z".into(),
            start_within_ms: None,
            capsule: None,
            content: None,
            step_contents: Vec::new(),
            call: None,
            request_id: None,
        })))
        .await;
    }

    pub async fn ack(&self, command_id: Uuid, offset_bytes: Option<u64>, receipt: Option<Receipt>) {
        self.send(ServerFrame::Ack(Ack { command_id, offset_bytes, receipt })).await;
    }

    pub async fn response(&mut self) -> Response {
        loop {
            if let AgentFrame::Response(response) = self.frame().await {
                return response;
            }
        }
    }

    /// Takes output, acknowledging it, until the response comes.
    pub async fn output(&mut self, command_id: Uuid, mut at: u64) -> (Vec<u8>, Response) {
        let mut output = Vec::new();
        loop {
            match self.next().await {
                Outgoing::Binary(bytes) => {
                    let frame = decode_frame(&bytes).expect("well formed");
                    assert_eq!((frame.command_id, frame.offset_bytes), (command_id, at));
                    for record in records_of(frame.records) {
                        output.extend_from_slice(record.expect("checked").payload);
                    }
                    at += frame.payload_bytes;
                    self.ack(command_id, Some(at), None).await;
                }
                Outgoing::Text(text) => {
                    if let Ok(AgentFrame::Response(response)) = decode_agent_frame(&text) {
                        return (output, response);
                    }
                }
            }
        }
    }

    pub async fn end(self) -> (Agent, SessionOutcome) {
        let _ = self.stop.send(true);
        self.ended().await
    }

    pub async fn ended(self) -> (Agent, SessionOutcome) {
        let Self { mut end, session, .. } = self;
        let emptied = tokio::spawn(async move {
            while end.from_agent.recv().await.is_some() {}
            drop(end.to_agent);
        });
        let ended =
            tokio::time::timeout(PATIENCE, session).await.expect("it ends").expect("cleanly");
        emptied.await.expect("cleanly");
        ended
    }
}
