//! Invitations: the hand-over of a new one, the open ones, and their withdrawal.

use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::listing::{Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::session::Session;

const COLUMNS: [Column; 5] = [
    Column::of("EMAIL", "email"),
    Column::of("ROLE", "role"),
    Column::of("CREATED", "created_at"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("ID", "id"),
];

/// Invites a person and prints the token alone on standard output, unless the server mailed it.
///
/// # Errors
/// [`CliError`].
pub async fn invite(session: &Session, email: &str, role: &str) -> Result<u8, CliError> {
    let body = json!({ "email": email, "role": role });
    let request = session.api.request(Method::POST, &["invitations"]).json(&body);
    let answer = session.api.json(request).await?;
    let Some(token) = answer.get("token").and_then(Value::as_str) else {
        session.output.answer(&answer, |_| {
            sanitize(&format!("invited; the token was sent to {email} and works for 7 days"))
        })?;
        return Ok(0);
    };
    session.output.new_secret(&answer, token)?;
    print_note("Give it to the person, who stores it in a file and runs, within 7 days:");
    print_note(&format!(
        "  muster accept-invitation --server {} --token-file FILE",
        session.api.server()
    ));
    Ok(0)
}

/// Lists the open invitations.
///
/// # Errors
/// [`CliError`].
pub async fn list(session: &Session, limit: Limit) -> Result<u8, CliError> {
    let (segments, columns, empty) = (&["invitations"], &COLUMNS, "No open invitations.");
    List { segments, filters: &[], limit, columns, empty }.show(session).await
}

/// Withdraws the open invitation with this id, or for this address.
///
/// # Errors
/// [`CliError`].
pub async fn withdraw(session: &Session, typed: &str) -> Result<u8, CliError> {
    let id = match uuid::Uuid::try_parse(typed) {
        Ok(_) => typed.to_owned(),
        Err(_) => id_of(session, typed).await?,
    };
    let request = session.api.request(Method::DELETE, &["invitations", &id]);
    let answer = session.api.json(request).await?;
    session.output.answer(&answer, |_| "withdrawn; its token is invalid".to_owned())?;
    Ok(0)
}

async fn id_of(session: &Session, email: &str) -> Result<String, CliError> {
    let page = session.api.list(&["invitations"], &[], None).await?;
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
    let text = |item: &Value, field: &str| {
        item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut items = items.unwrap_or_default().iter();
    let found = items.find(|item| text(item, "email").eq_ignore_ascii_case(email));
    found.map(|item| text(item, "id")).ok_or_else(|| {
        CliError::Usage(format!(
            "no open invitation is for \"{email}\"; list them with `muster members invitations`"
        ))
    })
}
