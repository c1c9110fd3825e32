//! `scripts`: what may be run here.

use serde_json::{Value, json};

use super::Surroundings;

pub fn answer(around: &Surroundings<'_>) -> Value {
    json!({"scripts": around.manifest.scripts})
}
