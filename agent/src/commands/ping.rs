//! `ping`: the agent is there.

use serde_json::{Value, json};

use crate::clock::timestamp;

pub fn answer() -> Value {
    json!({"pong": true, "timestamp": timestamp()})
}
