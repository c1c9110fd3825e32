//! `muster access ladder`: what work needs by the number and the tags of its agents.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::text::sanitize;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the ladder (default action)
    Show,
    /// Replace the ladder: 10=confirm 100=approve critical:1=approve
    Set {
        /// Number of agents from which on work needs `confirm`, `approve` or `refuse`; with a tag only agents
        /// that have it count
        #[arg(value_name = "[TAG:]N=DEMAND", required = true, value_parser = step)]
        steps: Vec<Value>,
    },
    /// Remove every step
    Clear,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let steps = match args.action.unwrap_or(Action::Show) {
        Action::Show => None,
        Action::Set { steps } => Some(steps),
        Action::Clear => Some(Vec::new()),
    };
    let request = match steps {
        None => session.api.request(Method::GET, &["access", "ladder"]),
        Some(steps) => {
            session.api.request(Method::PUT, &["access", "ladder"]).json(&json!({ "steps": steps }))
        }
    };
    let answer = session.api.json(request).await?;
    session.output.answer(&answer, text)?;
    Ok(0)
}

/// A line for each step.
fn text(answer: &Value) -> String {
    let steps = answer.get("steps").and_then(Value::as_array);
    let line = |step: &Value| {
        let text = |field: &str| step.get(field).and_then(Value::as_str).unwrap_or_default();
        let count = step.get("from_agents").and_then(Value::as_u64).unwrap_or_default();
        let which = match text("tag") {
            "" => String::new(),
            tag => format!(" with the tag {tag}"),
        };
        sanitize(&format!("{count} or more agents{which}: {}", text("demand")))
    };
    let lines: Vec<_> = steps.into_iter().flatten().map(line).collect();
    if lines.is_empty() {
        "No steps: no number of agents asks for anything.".into()
    } else {
        lines.join("\n")
    }
}

/// Reads a step.
///
/// # Errors
/// What a step looks like.
fn step(typed: &str) -> Result<Value, String> {
    let invalid =
        || "a step is [TAG:]N=DEMAND, such as 10=confirm or critical:1=approve".to_owned();
    let (reach, demand) = typed.rsplit_once('=').ok_or_else(invalid)?;
    let (tag, count) = match reach.rsplit_once(':') {
        Some((tag, count)) => (Some(tag), count),
        None => (None, reach),
    };
    let from_agents: u32 = count.parse().map_err(|_| invalid())?;
    if !["confirm", "approve", "refuse"].contains(&demand) {
        return Err("what a step needs is confirm, approve or refuse".into());
    }
    Ok(json!({"tag": tag, "from_agents": from_agents, "demand": demand}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_a_number_a_demand_and_perhaps_a_tag() {
        let plain = json!({"tag": null, "from_agents": 10, "demand": "confirm"});
        assert_eq!(step("10=confirm"), Ok(plain));
        let tagged = json!({"tag": "tier:1", "from_agents": 1, "demand": "refuse"});
        assert_eq!(step("tier:1:1=refuse"), Ok(tagged));
        for wrong in ["10", "confirm", "critical=approve", "10=maybe", "-1=confirm"] {
            step(wrong).expect_err(wrong);
        }
    }
}
