//! `muster access`: whether a key or a member may do something and by which rule, and the ladder.

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::ladder;
use super::members::member_id;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("principal", "KEY|MEMBER"),
    option("operation", "OPERATION").expects(
        "a scope such as agents:write, a command such as restart, `shell`, or `run:` and the name of a script",
    ),
    option("target", "TARGET"),
    option("steps", "STEP").expects("at most 20 steps"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Explain whether a key or a member may do something, and what is missing
    Explain {
        /// API key or member: `me`, the name of a key, the address of a member, or an id
        #[arg(value_name = "KEY|MEMBER")]
        principal: String,
        /// Scope such as agents:write, command such as restart, `shell`, or `run:` and the name of a script
        operation: String,
        /// Expression that matches the agents, such as `tag:web`
        target: Option<String>,
    },
    /// Show or change what work needs by the number and the tags of its agents
    Ladder(ladder::Args),
}

/// Runs one action. Exits with 0 if it is allowed, else with 1.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let (principal, operation, target) = match args.action {
        Action::Explain { principal, operation, target } => (principal, operation, target),
        Action::Ladder(args) => return ladder::run(args, session).await,
    };
    let mut query = vec![("operation", operation)];
    if principal != "me" {
        let id = match principal.contains('@') {
            true => member_id(session, &principal).await?,
            false => session.exact_id_of(ResourceKind::ApiKey, &principal).await?,
        };
        query.push(("principal", id));
    }
    query.extend(target.map(|target| ("target", target)));
    let request = session.api.request(Method::GET, &["access", "explain"]).query(&query);
    let answer = session.api.json(request).await?;
    session.output.answer(&answer, text)?;
    Ok(u8::from(answer["outcome"] != "allowed"))
}

/// The outcome, then a line for each rule.
fn text(answer: &Value) -> String {
    let field = |value: &Value, name: &str| {
        sanitize(value.get(name).and_then(Value::as_str).unwrap_or_default())
    };
    let mut lines = vec![format!("{}: {}", field(answer, "name"), field(answer, "outcome"))];
    for rule in answer.get("rules").and_then(Value::as_array).into_iter().flatten() {
        let code = match rule.get("code").and_then(Value::as_str) {
            Some(code) => format!(" ({})", sanitize(code)),
            None => String::new(),
        };
        lines.push(format!(
            "  {:<14}  {:<9}  {}{code}",
            field(rule, "outcome"),
            field(rule, "rule"),
            field(rule, "detail")
        ));
    }
    lines.join("\n")
}
