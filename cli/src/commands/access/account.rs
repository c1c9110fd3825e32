//! `muster whoami`, `muster confirm` and `muster logout`. [`own`] is `muster account`.

pub mod own;
mod totp;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::login::{read_password, read_secret};
use crate::api::client::ApiClient;
use crate::context::{self, Context};
use crate::error::CliError;
use crate::output::printer::Output;
use crate::output::text::sanitize;
use crate::session::Session;

/// Shows the API key or the person that later commands use.
///
/// # Errors
/// [`CliError`].
pub async fn whoami(session: &Session) -> Result<u8, CliError> {
    let me = session.api.json(session.api.request(Method::GET, &["me"])).await?;
    let server = session.api.server().as_str().trim_end_matches('/');
    session.output.answer(&me, |me| sanitize(&summary(me, server, Utc::now())))?;
    Ok(0)
}

/// Who sends the requests, as what and where, in one line.
fn summary(me: &Value, server: &str, now: DateTime<Utc>) -> String {
    let text = |value: &Value, field: &str| {
        value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let instant = |text: String| Some(DateTime::parse_from_rfc3339(&text).ok()?.to_utc());
    let day = |at: DateTime<Utc>| at.format("%-d %b %Y").to_string();
    let place = format!("{} of \"{}\" on {server}", text(me, "role"), text(me, "tenant_name"));
    let Some(session) = me.get("session").filter(|session| session.is_object()) else {
        let until = instant(text(me, "expires_at"));
        let until =
            until.map_or("it does not expire".to_owned(), |at| format!("until {}", day(at)));
        return format!("API key {}, {place} ({until})", text(me, "name"));
    };
    let here = me.get("memberships").and_then(Value::as_array).into_iter().flatten();
    let mut here = here.filter(|member| member["tenant_id"] == me["tenant_id"]);
    let email = here.next().map(|member| text(member, "email"));
    let who = email.filter(|email| !email.is_empty()).unwrap_or_else(|| text(me, "name"));
    let until = instant(text(session, "expires_at")).map(day).unwrap_or_default();
    let minutes = instant(text(session, "confirmed_at")).map(|at| (now - at).num_minutes());
    let confirmed = match minutes {
        Some(minutes) if minutes < 120 => format!("{} min ago", minutes.max(0)),
        Some(minutes) => format!("{} h ago", minutes / 60),
        None => "at an unknown time".to_owned(),
    };
    format!("{who}, {place} (session until {until}; password confirmed {confirmed})")
}

#[derive(Debug, clap::Args)]
pub struct ConfirmArgs {
    /// Ask for a code of the second factor instead of the password
    #[arg(long)]
    code: bool,
}

/// Proves the password again, or the second factor.
///
/// # Errors
/// [`CliError`].
pub async fn confirm(args: &ConfirmArgs, session: &Session) -> Result<u8, CliError> {
    let body = match args.code {
        true => json!({ "code": read_secret("Code: ")?.trim() }),
        false => json!({ "password": read_password("Password: ")? }),
    };
    session
        .change(Method::POST, &["auth", "confirm"], &body, |_| {
            "Confirmed: dangerous changes are allowed for 15 minutes.".to_owned()
        })
        .await
}

/// Ends the stored session on the server, and removes the session or the key from this host.
///
/// # Errors
/// [`CliError`]; a session that the server has ended already is no error.
pub async fn logout(context: Context, output: Output) -> Result<u8, CliError> {
    let has_session = context.renewal.is_some();
    if has_session {
        let ended = async {
            let api = ApiClient::new(&context)?;
            api.json(api.request(Method::POST, &["auth", "logout"]).json(&json!({}))).await
        };
        match ended.await {
            Err(CliError::Refused(problem)) if problem.status == 401 => {}
            ended => drop(ended?),
        }
    }
    if let Some(path) = context::default_path() {
        context::forget(&path)?;
    }
    output.answer(&Value::Null, |_| match has_session {
        true => "signed out".to_owned(),
        false => "the API key is no longer stored; it stays valid until it is revoked".to_owned(),
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_the_requests_is_one_line() {
        let now: DateTime<Utc> = "2026-11-22T10:03:30Z".parse().expect("an instant");
        let person = json!({"kind": "member", "name": "Ada", "role": "owner", "tenant_id": "t",
            "tenant_name": "default",
            "session": {"expires_at": "2026-11-29T10:00:00Z", "confirmed_at": "2026-11-22T10:00:00Z"},
            "memberships": [{"tenant_id": "other", "email": "x@x"}, {"tenant_id": "t", "email": "ada@example.com"}]});
        assert_eq!(
            summary(&person, "http://m", now),
            "ada@example.com, owner of \"default\" on http://m (session until 29 Nov 2026; password confirmed 3 min ago)"
        );
        let key = json!({"kind": "api_key", "name": "ci", "role": "member", "tenant_name": "default",
            "session": null, "expires_at": null, "memberships": []});
        assert_eq!(
            summary(&key, "http://m", now),
            "API key ci, member of \"default\" on http://m (it does not expire)"
        );
    }
}
