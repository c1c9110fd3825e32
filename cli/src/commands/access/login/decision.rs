//! `muster login approve` and `muster login refuse`: decides about the sign-in of another device.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::printer::print_note;
use crate::session::Session;

/// The decision.
#[derive(Debug, Subcommand)]
pub enum Decision {
    /// Approve the code that `muster login` shows on another device, which then acts as you
    Approve {
        /// Code, such as BCDF-GHJK
        code: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Refuse the code of a device
    Refuse {
        /// Code, such as BCDF-GHJK
        code: String,
    },
}

/// Decides, and shows which program it was.
///
/// # Errors
/// [`CliError`].
pub async fn run(decision: Decision, session: &Session) -> Result<u8, CliError> {
    let (action, code) = match decision {
        Decision::Approve { code, yes } => {
            if !yes {
                ask(&code, session).await?;
            }
            ("approve", code)
        }
        Decision::Refuse { code } => ("refuse", code),
    };
    let segments = ["auth", "device", action];
    session.change_and_show(Method::POST, &segments, &json!({ "user_code": code })).await
}

/// Shows which program waits, and asks whether to approve it.
async fn ask(code: &str, session: &Session) -> Result<(), CliError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(CliError::Usage("can't ask without a terminal; add --yes".into()));
    }
    let body = json!({ "user_code": code });
    let request = session.api.request(Method::POST, &["auth", "device", "show"]).json(&body);
    let shown = session.api.json(request).await?;
    let text = |field: &str| shown.get(field).and_then(Value::as_str).unwrap_or("unknown");
    print_note(&format!(
        "a program that calls itself \"{}\" asks from {} to act as you, since {}",
        text("user_agent"),
        text("source"),
        text("created_at")
    ));
    print_note("approve it only if you started it; type yes to approve:");
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    match line.trim() {
        "yes" => Ok(()),
        _ => Err(CliError::Unsuccessful("not approved".into())),
    }
}
