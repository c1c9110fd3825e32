//! `scripts`: what may be run here.

use serde_json::{Value, json};

use super::CommandContext;

pub fn answer(context: &CommandContext<'_>) -> Value {
    json!({"scripts": context.manifest.scripts})
}
