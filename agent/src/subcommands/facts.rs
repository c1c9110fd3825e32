//! `muster-agent facts`: what the agent reports about this host. The agent itself starts it, too.

use std::fmt::Write as _;
use std::path::Path;

use muster_protocol::escape::for_terminal;

use crate::agent::facts;
use crate::platform;

/// Why no facts are shown.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("{0}")]
    Policy(String),
    #[error("failed to show the facts as JSON")]
    Json(#[source] serde_json::Error),
    #[error("failed to adopt the processes of programs")]
    Adopt(#[source] std::io::Error),
}

/// Collects the facts, and shows them.
///
/// # Errors
/// [`FactsError`]
pub fn facts(state_dir: &Path, json: bool, watch_input: bool) -> Result<String, FactsError> {
    // Programs that leave their group are found, too.
    platform::become_subreaper().map_err(FactsError::Adopt)?;
    let report = facts::collect(state_dir, watch_input).map_err(FactsError::Policy)?;
    if json {
        return serde_json::to_string(&report).map_err(FactsError::Json);
    }
    let mut text = String::new();
    for (name, value) in &report.facts {
        let values: Vec<_> = value.values().iter().map(|value| for_terminal(value)).collect();
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name} = {}", values.join(", "));
    }
    for error in &report.errors {
        let (source, error) = (for_terminal(&error.source), for_terminal(&error.error));
        let _ = writeln!(text, "error in {source}: {error}");
    }
    Ok(text)
}
