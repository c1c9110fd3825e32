//! `ping`: shows that the agent responds.

use serde_json::{Value, json};

use crate::clock::timestamp;

pub fn answer() -> Value {
    json!({"pong": true, "timestamp": timestamp()})
}
