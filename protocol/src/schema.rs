//! JSON Schema and AsyncAPI documents of the protocol, generated from the types of the frames.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::PROTOCOL_VERSION;
use crate::frame::exchange::CONTENT_TYPE;
use crate::frame::{AgentFrame, CloseCode, Registration, Response, ServerFrame};
use crate::limits::MAX_FRAME_BYTES;
use crate::manifest::Script;
use crate::release::UpdateResult;

/// Who sends a frame.
#[derive(Clone, Copy)]
enum Sender {
    Agent,
    Server,
}

impl Sender {
    const BOTH: [Self; 2] = [Self::Agent, Self::Server];

    /// The name of the schema of all frames of this sender.
    const fn frames(self) -> &'static str {
        match self {
            Self::Agent => "AgentFrame",
            Self::Server => "ServerFrame",
        }
    }
}

/// One frame: its type, and the name of its schema.
struct Frame {
    kind: String,
    schema: String,
    description: String,
}

/// The schemas of all frames and of the types in them, each frame under a name of its own.
struct Definitions {
    schemas: Map<String, Value>,
    agent: Vec<Frame>,
    server: Vec<Frame>,
}

impl Definitions {
    fn generate(settings: SchemaSettings) -> Self {
        let prefix = format!("#{}/", settings.definitions_path);
        let mut generator = settings.into_generator();
        generator.subschema_for::<AgentFrame>();
        generator.subschema_for::<ServerFrame>();
        let mut schemas = generator.take_definitions(true);
        let agent = split(&mut schemas, Sender::Agent, &prefix);
        let server = split(&mut schemas, Sender::Server, &prefix);
        Self { schemas, agent, server }
    }

    fn frames(&self, sender: Sender) -> &[Frame] {
        match sender {
            Sender::Agent => &self.agent,
            Sender::Server => &self.server,
        }
    }
}

/// Gives each variant of a frame enum a schema of its own, which the enum refers to.
fn split(schemas: &mut Map<String, Value>, sender: Sender, prefix: &str) -> Vec<Frame> {
    let all = schemas.get_mut(sender.frames()).and_then(|all| all.get_mut("oneOf"));
    let variants: Vec<Value> =
        all.as_ref().and_then(|all| all.as_array()).cloned().unwrap_or_default();
    let frames: Vec<Frame> = variants.iter().map(frame).collect();
    if let Some(all) = all {
        let refs = frames.iter().map(|frame| json!({"$ref": format!("{prefix}{}", frame.schema)}));
        *all = refs.collect();
    }
    for (frame, schema) in frames.iter().zip(variants) {
        schemas.insert(frame.schema.clone(), schema);
    }
    frames
}

fn frame(variant: &Value) -> Frame {
    let text = |pointer: &str| variant.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/properties/type/const").to_owned();
    let capitalized = kind.split('_').map(|word| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_uppercase() + rest
    });
    let schema = capitalized.collect::<String>() + "Frame";
    Frame { kind, schema, description: text("/description").to_owned() }
}

/// JSON Schema (2020-12) of every frame. The root accepts any frame.
pub fn frame_schemas() -> Value {
    let Definitions { schemas, .. } = Definitions::generate(SchemaSettings::draft2020_12());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Frames of the Muster agent protocol",
        "description": "Text frames of agents and servers. Receivers ignore unknown fields.",
        "anyOf": Sender::BOTH.map(|sender| json!({"$ref": format!("#/$defs/{}", sender.frames())})),
        "$defs": schemas,
    })
}

/// Schemas of types that the API and frames have in common, for the components of an OpenAPI
/// document.
pub fn shared_with_api() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    generator.subschema_for::<Registration>();
    generator.subschema_for::<Response>();
    generator.subschema_for::<Script>();
    generator.subschema_for::<UpdateResult>();
    generator.take_definitions(true)
}

/// The AsyncAPI 3 document of the protocol, as the server speaks it. `version` is the server's.
pub fn asyncapi(version: &str) -> Value {
    let settings = SchemaSettings::draft07()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let definitions = Definitions::generate(settings);
    let mut messages = Map::new();
    for sender in Sender::BOTH {
        for frame in definitions.frames(sender) {
            messages.insert(message_name(sender, &frame.kind), message(frame));
        }
    }
    messages.insert("agent.output".into(), output_message());
    let channel_messages: Map<String, Value> = messages
        .keys()
        .map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})))
        .collect();
    let operation = |action: &str, channel: &str, sender: Sender, summary: &str| {
        let prefix = sender_name(sender);
        let messages: Vec<Value> = messages
            .keys()
            .filter(|name| name.starts_with(prefix))
            .map(|name| json!({"$ref": format!("#/channels/{channel}/messages/{name}")}))
            .collect();
        let channel = format!("#/channels/{channel}");
        json!({"action": action, "channel": {"$ref": channel}, "summary": summary,
            "messages": messages})
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Muster agent protocol",
            "version": version,
            "description": format!("The frames between agents and a Muster server, protocol \
                version {PROTOCOL_VERSION}. A frame has at most {MAX_FRAME_BYTES} bytes. Receivers \
                ignore unknown fields. docs/PROTOCOL.md explains the order of frames."),
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "websocket": {
                "address": "/ws/agent",
                "title": "WebSocket",
                "description": "One session of an agent. Text messages are frames in JSON; binary \
                    messages are output. Needs an agent key as `Authorization: Bearer`.",
                "messages": channel_messages.clone(),
                "bindings": {"ws": {"method": "GET", "headers": {"type": "object",
                    "properties": {"Authorization": {"type": "string"}}}}},
                "x-close-codes": CloseCode::ALL.map(
                    |code| json!({"code": code.code(), "reason": code.reason()})),
            },
            "exchange": {
                "address": "/api/agents/exchange",
                "title": "HTTP exchange",
                "description": format!("The same frames in the bodies of HTTP requests and \
                    responses with the content type `{CONTENT_TYPE}`, for full agents whose \
                    network blocks WebSockets."),
                "messages": channel_messages,
                "bindings": {"http": {}},
            },
        },
        "operations": {
            "receiveOverWebSocket":
                operation("receive", "websocket", Sender::Agent, "Frames of an agent"),
            "sendOverWebSocket":
                operation("send", "websocket", Sender::Server, "Frames of the server"),
            "receiveOverHttp": operation("receive", "exchange", Sender::Agent, "Frames of an agent"),
            "sendOverHttp": operation("send", "exchange", Sender::Server, "Frames of the server"),
        },
        "components": {"messages": messages, "schemas": definitions.schemas},
    })
}

const fn sender_name(sender: Sender) -> &'static str {
    match sender {
        Sender::Agent => "agent.",
        Sender::Server => "server.",
    }
}

fn message_name(sender: Sender, kind: &str) -> String {
    format!("{}{kind}", sender_name(sender))
}

fn message(frame: &Frame) -> Value {
    let schema = format!("#/components/schemas/{}", frame.schema);
    json!({"name": frame.kind, "title": frame.kind, "summary": frame.description,
        "contentType": "application/json", "payload": {"$ref": schema}})
}

/// The one binary frame.
fn output_message() -> Value {
    json!({
        "name": "output",
        "title": "output",
        "summary": "Output of an execution, in a binary message.",
        "description": "version u8 (1), command id 16 bytes, offset u64, then records: stream u8 \
            (1 stdout, 2 stderr), length u32, payload. Numbers are big-endian. The offset counts \
            the payload of both streams before the first record.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_has_a_schema_and_every_reference_is_resolved() {
        let document = frame_schemas();
        let defs = document["$defs"].as_object().expect("definitions");
        for name in ["RegisterFrame", "InventoryEndFrame", "CommandFrame", "DrainFrame"] {
            assert!(defs.contains_key(name), "{name}");
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(defs.contains_key(name), "{name}");
        }
    }
}
