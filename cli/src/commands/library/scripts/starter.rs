//! `muster scripts starter`: scripts to start with.

use reqwest::Method;
use serde_json::{Value, json};

use super::get;
use crate::error::CliError;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 4] = [
    Column::of("NAME", "name"),
    Column::of("IN LIBRARY", "is_in_library"),
    Column::of("TAGS", "tags"),
    Column::of("DESCRIPTION", "description"),
];

#[derive(Debug, clap::Args)]
pub struct StarterOptions {
    /// Save these scripts in the library [default: only list them]
    names: Vec<String>,
    /// Save all that the library does not have
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// Lists the scripts, or saves some of them. What the library has under the same name stays.
///
/// # Errors
/// [`CliError`]; what was saved before stays.
pub async fn run(options: StarterOptions, session: &Session) -> Result<u8, CliError> {
    let offered = get(session, &["scripts", "starter"]).await?;
    if options.names.is_empty() && !options.all {
        session.output.list(&offered, &COLUMNS, "")?;
        return Ok(0);
    }
    let scripts = offered["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |script: &&Value| {
        options.all || options.names.iter().any(|name| script["name"] == name.as_str())
    };
    if let Some(unknown) = options
        .names
        .iter()
        .find(|name| scripts.iter().all(|script| script["name"] != name.as_str()))
    {
        return Err(CliError::Usage(format!("the starter library has no script `{unknown}`")));
    }
    let mut items = Vec::new();
    for script in scripts.iter().filter(named) {
        let action = match script["is_in_library"].as_bool() {
            Some(true) => "unchanged",
            _ => {
                let mut body = script.clone();
                if let Some(fields) = body.as_object_mut() {
                    fields.remove("is_in_library");
                    fields.insert("message".into(), "from the starter library".into());
                }
                let request = session.api.request(Method::POST, &["scripts"]).json(&body);
                session.api.json(request).await?;
                "create"
            }
        };
        items.push(json!({"name": script["name"], "action": action}));
    }
    let answer = json!({"items": items, "dry_run": false});
    session.output.answer(&answer, super::folder::lines)?;
    Ok(0)
}
