//! `muster account totp`: the second factor of the person.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::login::read_secret;
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::text::sanitize;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show whether codes are asked for, and how many recovery codes are left (default action)
    Show,
    /// Show a secret for a device that shows codes; it counts after `muster account totp confirm`
    Enable,
    /// Enable the second factor with the present code of the device, which comes from a prompt or standard
    /// input. Shows the recovery codes, once
    Confirm,
    /// Disable the second factor with a code, which comes from a prompt or standard input
    Disable,
    /// Replace the recovery codes with a code, which comes from a prompt or standard input. Shows the new ones,
    /// once
    RecoveryCodes,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::Show) {
        Action::Show => {
            let shown = session.api.json(session.api.request(Method::GET, &["me", "totp"])).await?;
            session.output.answer(&shown, state)?;
        }
        Action::Enable => {
            let request = session.api.request(Method::POST, &["me", "totp"]).json(&json!({}));
            let made = session.api.json(request).await?;
            session.output.answer(&made, |made| {
                let text = |field: &str| {
                    sanitize(made.get(field).and_then(Value::as_str).unwrap_or_default())
                };
                format!("secret: {}\n{}", text("secret"), text("otpauth_url"))
            })?;
            print_note(
                "add it to the device, then run `muster account totp confirm` with its code",
            );
        }
        Action::Confirm => {
            let code = read_secret("Code: ")?;
            show_codes(&["me", "totp", "confirm"], &json!({ "code": code.trim() }), session)
                .await?;
            print_note(
                "the second factor is enabled; `muster login` asks for codes from now on, and your other sessions have ended",
            );
        }
        Action::Disable => {
            let body = json!({ "code": read_secret("Code: ")?.trim() });
            let request = session.api.request(Method::DELETE, &["me", "totp"]).json(&body);
            let answer = session.api.json(request).await?;
            session.output.answer(&answer, |_| "disabled".to_owned())?;
        }
        Action::RecoveryCodes => {
            let body = json!({ "code": read_secret("Code: ")?.trim() });
            show_codes(&["me", "totp", "recovery-codes"], &body, session).await?;
        }
    }
    Ok(0)
}

fn state(shown: &Value) -> String {
    let Some(since) = shown.get("enabled_at").and_then(Value::as_str) else {
        return "the second factor is disabled; enable it with `muster account totp enable`"
            .to_owned();
    };
    let left = shown.get("recovery_codes_left").and_then(Value::as_u64).unwrap_or_default();
    format!("the second factor is enabled since {}; recovery codes left: {left}", sanitize(since))
}

/// Prints one code a line, so that they can be stored in a file.
async fn show_codes(segments: &[&str], body: &Value, session: &Session) -> Result<(), CliError> {
    let request = session.api.request(Method::POST, segments).json(body);
    let answer = session.api.json(request).await?;
    session.output.answer(&answer, |answer| {
        let codes = answer.get("recovery_codes").and_then(Value::as_array);
        let codes = codes.into_iter().flatten().filter_map(Value::as_str);
        codes.map(sanitize).collect::<Vec<_>>().join("\n")
    })?;
    print_note("store the recovery codes away from the device; each one works once");
    Ok(())
}
