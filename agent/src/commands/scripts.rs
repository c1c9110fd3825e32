//! `scripts`: lists the scripts that may be run on this host.

use serde_json::{Value, json};

use super::CommandContext;

pub fn answer(context: &CommandContext<'_>) -> Value {
    json!({"scripts": context.manifest.scripts})
}
