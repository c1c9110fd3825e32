//! `muster schedules preview` and `simulate`: what would be due.

use reqwest::Method;
use serde_json::{Value, json};

use super::settings::RuleOptions;
use super::text;
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

const PREVIEW_COLUMNS: [Column; 3] = [
    Column::of("LOCAL TIME", "local"),
    Column::of("TIME", "at"),
    Column::of("CLOCK CHANGE", "clock_change"),
];

/// Prints the next due times of a schedule or of a rule.
pub async fn preview(
    session: &Session,
    schedule: Option<String>,
    rule: RuleOptions,
    count: Option<u64>,
) -> Result<u8, CliError> {
    let mut shown = None;
    let request = match (schedule, rule.body()) {
        (Some(_), Some(_)) => {
            let message = "give a schedule or the options of a rule, not both";
            return Err(CliError::Usage(message.into()));
        }
        (Some(schedule), None) => {
            let id = session.id_of(ResourceKind::Schedule, &schedule).await?;
            let request = session.api.request(Method::GET, &["schedules", &id]);
            shown = Some(session.api.json(request).await?);
            let request = session.api.request(Method::GET, &["schedules", &id, "preview"]);
            let count = count.map(|count| count.to_string());
            let query: Vec<_> = count.iter().map(|count| ("count", count.as_str())).collect();
            request.query(&query)
        }
        (None, rule) => {
            let mut body = json!({ "rule": rule });
            if let Some(count) = count {
                body["count"] = count.into();
            }
            session.api.request(Method::POST, &["schedules", "preview"]).json(&body)
        }
    };
    let answer = session.api.json(request).await?;
    if !session.output.json {
        print_note(&sanitize(&text(&answer, "sentence")));
        if let Some(note) = shown.as_ref().and_then(idle_note) {
            print_note(&note);
        }
    }
    session.output.list(&answer, &PREVIEW_COLUMNS, "It is not due again.")?;
    Ok(0)
}

/// Prints what all schedules, or one, would start in the next days.
pub async fn simulate(
    session: &Session,
    schedule: Option<String>,
    days: u64,
) -> Result<u8, CliError> {
    let mut body = json!({"for_ms": days.saturating_mul(86_400_000)});
    if let Some(schedule) = schedule {
        body["schedule_id"] = session.id_of(ResourceKind::Schedule, &schedule).await?.into();
    }
    let request = session.api.request(Method::POST, &["schedules", "simulate"]).json(&body);
    let answer = session.api.json(request).await?;
    session.output.details(&answer)?;
    Ok(0)
}

/// The note about a schedule that starts nothing at its due times.
fn idle_note(schedule: &Value) -> Option<String> {
    let state = text(schedule, "state");
    matches!(state.as_str(), "disabled" | "stopped").then(|| {
        let name = text(schedule, "name");
        sanitize(&format!(
            "it is {state} and starts nothing at these times; enable it with `muster schedules enable {name}`"
        ))
    })
}
