//! `muster run --dry-run`: what a run would do on each agent. Sends nothing to any host.

use reqwest::Method;
use serde_json::Value;

use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 4] = [
    Column::of("NAME", "name"),
    Column::by("DECISION", decision),
    Column::of("REASON", "reason"),
    Column::of("ID", "id"),
];

/// Previews the job. 0 if it would start, else 1.
///
/// # Errors
/// [`CliError`].
pub async fn run(session: &Session, body: &Value) -> Result<u8, CliError> {
    let request = session.api.request(Method::POST, &["jobs", "preview"]).json(body);
    let mut preview = session.api.json_with_retries(request).await?;
    // Every list has its items under this name.
    if let Some(fields) = preview.as_object_mut()
        && let Some(agents) = fields.remove("agents")
    {
        fields.insert("items".into(), agents);
    }
    session.output.list(&preview, &COLUMNS, "No agents match.")?;
    let would_start = preview.get("would_start") == Some(&Value::Bool(true));
    if !session.output.json {
        print_note(&summary(&preview, would_start));
    }
    Ok(u8::from(!would_start))
}

/// What would happen on one agent, in words.
fn decision(agent: &Value) -> String {
    match agent.get("decision").and_then(Value::as_str).unwrap_or_default() {
        "run" => "runs",
        "wait" => "waits: offline",
        "skip" => "skipped",
        "refuse" => "refuses",
        other => other,
    }
    .to_owned()
}

fn summary(preview: &Value, would_start: bool) -> String {
    let count = |name: &str| {
        let counts = preview.get("counts").and_then(|counts| counts.get(name));
        counts.and_then(Value::as_u64).unwrap_or_default()
    };
    let counts = format!(
        "{} would run it, {} would wait, {} would be skipped, {} would refuse",
        count("run"),
        count("wait"),
        count("skip"),
        count("refuse")
    );
    match (would_start, preview.get("needs_approval") == Some(&Value::Bool(true))) {
        (false, _) => format!("{counts}; the run would be refused, and nothing was sent"),
        (true, true) => format!("{counts}; it would wait for an approval first; nothing was sent"),
        (true, false) => format!("{counts}; nothing was sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn summary_says_what_would_happen() {
        let preview = json!({"counts": {"run": 3, "wait": 1, "skip": 0, "refuse": 1}});
        let start = "3 would run it, 1 would wait, 0 would be skipped, 1 would refuse";
        assert_eq!(
            summary(&preview, false),
            format!("{start}; the run would be refused, and nothing was sent")
        );
        assert_eq!(summary(&preview, true), format!("{start}; nothing was sent"));
        assert_eq!(decision(&json!({"decision": "wait"})), "waits: offline");
    }
}
