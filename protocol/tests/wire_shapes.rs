//! The wire, byte for byte: a change of any snapshot is a change of the protocol.

use muster_protocol::commands::attestation::Attestation;
use muster_protocol::facts::{FactError, FactReport, FactValue};
use muster_protocol::frame::{
    Ack, AgentFrame, AuthorityNotice, Command, InventoryItem, InventoryState, Outcome, Receipt,
    Registered, Registration, Response, ServerFrame, decode_agent_frame, decode_server_frame,
};
use muster_protocol::identity::Challenge;
use muster_protocol::package::{
    AssignedItem, AssignedScript, AssignmentReport, AssignmentState, PackagePin, ServiceControl,
    ServiceHealth, ServiceLimits, ServiceReport, ServiceState, TaskRun, TaskSchedule,
};
use muster_protocol::release::{UpdateOutcome, UpdateResult};
use muster_protocol::{CommandName, Permissions};
use serde_json::json;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
const AT: &str = "2026-01-01T12:00:00Z";

fn pin() -> PackagePin {
    PackagePin { version: "1.2.0".into(), sha256: "a".into(), document_sha256: "b".into() }
}

#[test]
fn server_frames_have_the_shapes_of_the_basic_protocol() {
    let frames = [
        ServerFrame::Connected {
            message: "Agent connection established".into(),
            agent_key_id: ID,
            permissions: Permissions::new([CommandName::Ping, CommandName::Info]),
            timestamp: AT.into(),
            challenge: None,
        },
        ServerFrame::Command(Box::new(Command {
            command_id: ID,
            command: "ping".into(),
            data: json!({}),
            timestamp: AT.into(),
            start_within_ms: None,
            capsule: None,
            content: None,
            step_contents: Vec::new(),
            call: None,
            request_id: None,
        })),
    ];
    insta::assert_json_snapshot!(frames);
}

#[test]
fn server_frames_of_the_full_protocol() {
    let frames = [
        ServerFrame::Registered(Box::new(Registered {
            agent_id: ID,
            epoch: 3,
            heartbeat_interval_ms: 30_000,
            max_output_bytes: None,
            server_restored: false,
            server_version: "0.1.0".into(),
            desired_version: None,
            timestamp: AT.into(),
            ticket: Some("ticket".into()),
            tags_ignored: true,
            accepts_facts: false,
        })),
        ServerFrame::Connected {
            message: "Agent connection established".into(),
            agent_key_id: ID,
            permissions: Permissions::new([CommandName::Ping]),
            timestamp: AT.into(),
            challenge: Some(Challenge::from_bytes([7; 32])),
        },
        ServerFrame::HeartbeatAck { timestamp: AT.into() },
        ServerFrame::Cancel { command_id: ID, grace_ms: 10_000 },
        ServerFrame::Ack(Ack { command_id: ID, offset_bytes: Some(17), receipt: None }),
        ServerFrame::Ack(Ack {
            command_id: ID,
            offset_bytes: None,
            receipt: Some(Receipt::Recorded),
        }),
        ServerFrame::Drain { reconnect_delay_ms: 1_500 },
        ServerFrame::Rekey { key: "mst_agent_…".into(), grace_ms: 60_000 },
        ServerFrame::Deregistered,
        ServerFrame::Assignments {
            revision: 2,
            items: vec![
                AssignedItem {
                    assignment_id: ID,
                    name: "backup".into(),
                    package: pin(),
                    document: "{}".into(),
                    signatures: vec![],
                    parameters: [("WHO".to_owned(), "world".to_owned())].into(),
                    control: Some(ServiceControl { is_stopped: true, restart_requests: 1 }),
                    script: None,
                },
                AssignedItem {
                    assignment_id: ID,
                    name: "disk-report".into(),
                    package: PackagePin { version: "3".into(), ..pin() },
                    document: "{}".into(),
                    signatures: vec![],
                    parameters: Default::default(),
                    control: None,
                    script: Some(AssignedScript {
                        schedule: TaskSchedule {
                            cron: Some("0 3 * * *".into()),
                            time_zone: Some("Europe/Berlin".into()),
                            every_ms: None,
                        },
                        body_bytes: 17,
                    }),
                },
            ],
        },
        ServerFrame::Certificate { certificate: "AAAA".into() },
        ServerFrame::Authorities(Box::new(AuthorityNotice {
            id: ID,
            certificate: "BBBB".into(),
            proof: vec!["CCCC".into(), "DDDD".into()],
            retired: vec!["00ff".into()],
        })),
    ];
    insta::assert_json_snapshot!(frames);
}

#[test]
fn agent_frames_of_the_full_protocol() {
    let frames = [
        AgentFrame::Register {
            data: Box::new(Registration {
                hostname: "server1".into(),
                protocol: Some(1),
                ledger_id: Some(ID),
                public_key: Some("key".into()),
                proof: Some("signature".into()),
                ticket: Some("ticket".into()),
                name: Some("web-1".into()),
                tags: vec!["web".into()],
                ..Registration::default()
            }),
        },
        AgentFrame::Accepted { command_id: ID, acceptance_count: 4 },
        AgentFrame::Started { command_id: ID },
        AgentFrame::Inventory {
            items: vec![InventoryItem {
                command_id: ID,
                state: InventoryState::Running,
                offset_bytes: 9,
            }],
        },
        AgentFrame::InventoryEnd,
        AgentFrame::Response(Response {
            command_id: ID,
            success: false,
            data: json!({}),
            error: Some("no space".into()),
            error_code: Some("no_space".into()),
            outcome: Some(Outcome::Rejected),
            attestation: Some(Attestation { document: "{}".into(), signature: "signature".into() }),
            call: None,
        }),
        AgentFrame::Deregister,
        AgentFrame::UpdateResult {
            result: UpdateResult {
                command_id: None,
                outcome: UpdateOutcome::RolledBack,
                from_version: "0.1.0".into(),
                to_version: "0.2.0".into(),
                code: Some("crashed".into()),
                message: "it ended 3 times".into(),
            },
        },
        AgentFrame::AssignmentStates {
            revision: 2,
            items: vec![AssignmentReport {
                assignment_id: ID,
                version: "1.2.0".into(),
                state: AssignmentState::Failed,
                error_code: Some("no_space".into()),
                error: Some("no space".into()),
                skipped_count: 1,
                service: Some(ServiceReport {
                    state: ServiceState::Backoff,
                    started_at_ms: Some(1_767_225_600_000),
                    restart_count: 2,
                    restart_at_ms: Some(1_767_225_700_000),
                    last_outcome: Some(Outcome::Failed),
                    last_error_code: Some("exit_code".into()),
                    health: Some(ServiceHealth::Healthy),
                    limits: Some(ServiceLimits::Applied),
                }),
            }],
        },
        AgentFrame::TaskRun(TaskRun {
            assignment_id: ID,
            due_at_ms: 1_767_225_600_000,
            package: pin(),
            timeout_ms: 1_000,
            is_service: true,
        }),
        AgentFrame::AuthoritiesStored { id: ID },
    ];
    insta::assert_json_snapshot!(frames);
}

#[test]
fn frame_of_facts_and_the_server_that_accepts_it() {
    let addresses = ["10.0.0.5", "2001:db8::5"].map(str::to_owned).to_vec();
    let facts = AgentFrame::Facts(FactReport {
        facts: [
            ("distribution".to_owned(), FactValue::One("debian".into())),
            ("addresses.eth0".to_owned(), FactValue::Several(addresses)),
        ]
        .into(),
        errors: vec![FactError {
            source: "facts.d/slow".into(),
            error: "it ran longer than 10 s".into(),
        }],
    });
    let text = serde_json::to_string(&facts).expect("plain data");
    assert_eq!(decode_agent_frame(&text), Ok(facts.clone()));
    insta::assert_json_snapshot!([&facts]);
    // A server that does not know facts leaves the field out.
    let old = r#"{"type":"registered","agent_id":"01a1fdaf-2ceb-7398-a560-fef62154c108","epoch":1,
        "heartbeat_interval_ms":1,"server_version":"0","timestamp":""}"#;
    let Ok(ServerFrame::Registered(registered)) = decode_server_frame(old) else { panic!("{old}") };
    assert!(!registered.accepts_facts);
}

#[test]
fn frames_of_the_basic_protocol_are_read() {
    for text in [
        r#"{"type":"register","data":{"agent_id":"uuid","hostname":"server1","ip":"192.168.1.100","version":"1.0.0","os":"Linux 5.15.0","capabilities":["ping","info","execute"]}}"#,
        r#"{"type":"heartbeat","status":{"uptime":"running","timestamp":"2024-01-01T12:00:00"}}"#,
        r#"{"type":"response","command_id":"0190f2ea-0000-7000-8000-000000000001","success":true,"data":{"pong":true}}"#,
    ] {
        decode_agent_frame(text).expect(text);
    }
}
