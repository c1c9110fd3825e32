//! `muster agents facts`: what a host reports about itself.

use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 2] = [Column::of("NAME", "name"), Column::of("VALUE", "value")];

/// Shows the facts, and why some are missing.
pub(super) async fn show(session: &Session, agent: &str) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Agent, agent).await?;
    let request = session.api.request(Method::GET, &["agents", &id, "facts"]);
    let answer = session.api.json(request).await?;
    if session.output.json {
        session.output.list(&answer, &COLUMNS, "")?;
        return Ok(0);
    }
    session.output.list(&rows(&answer), &COLUMNS, "The host has not reported facts.")?;
    for error in answer.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
        print_note(&sanitize(&format!("{}: {}", text("source"), text("error"))));
    }
    Ok(0)
}

/// The facts as rows of a table.
fn rows(answer: &Value) -> Value {
    let row = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Array(values) => {
                values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            value => value.as_str().unwrap_or_default().to_owned(),
        };
        json!({"name": name, "value": value})
    };
    let facts = answer.get("facts").and_then(Value::as_object).into_iter().flatten();
    json!({"items": facts.map(row).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_are_one_row() {
        let answer = json!({"facts": {"a": "x", "b": ["1", "2"]}});
        let items = json!({"items": [{"name": "a", "value": "x"}, {"name": "b", "value": "1, 2"}]});
        assert_eq!(rows(&answer), items);
    }
}
