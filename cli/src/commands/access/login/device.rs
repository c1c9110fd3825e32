//! Signs in by a code that a person approves in a browser, or in another session of this program.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::store_session;
use crate::api::client::ApiClient;
use crate::api::credential::with_tokens;
use crate::context::Context;
use crate::error::CliError;
use crate::output::printer::{Output, print_note};

/// What RFC 8628 adds to the interval for a program that asks too often.
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// Bounds of what a server may request.
const MAX_INTERVAL_S: u64 = 60;
const MAX_LIFETIME_S: u64 = 3_600;

/// Asks for a code, waits until it is approved, and stores the session.
///
/// # Errors
/// [`CliError`]; then nothing is stored.
pub async fn sign_in(context: Context, path: &Path, output: Output) -> Result<u8, CliError> {
    let api = ApiClient::new(&context)?;
    let request = api.request(Method::POST, &["auth", "device"]).json(&json!({}));
    let started = api.json(request).await?;
    let text = |field: &str| {
        let text = started.get(field).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| CliError::Answer(format!("it has no `{field}`")))
    };
    let (device_code, user_code) = (text("device_code")?, text("user_code")?);
    print_note(&format!("open {} and enter the code {user_code}", text("verification_uri")?));
    print_note(&format!("or run where you are signed in: muster login approve {user_code}"));
    let seconds = |field: &str, default: u64, most: u64| {
        let value = started.get(field).and_then(Value::as_u64).unwrap_or(default);
        Duration::from_secs(value.clamp(1, most))
    };
    let interval = seconds("interval", 5, MAX_INTERVAL_S);
    let end = Instant::now() + seconds("expires_in", 600, MAX_LIFETIME_S);
    let answer = wait_for_session(&api, &device_code, interval, end).await?;
    let context = with_tokens(context, &answer)?;
    store_session(&context, path, &answer["member"], output)
}

/// The answer with the tokens.
async fn wait_for_session(
    api: &ApiClient,
    device_code: &str,
    mut interval: Duration,
    end: Instant,
) -> Result<Value, CliError> {
    let body = json!({ "device_code": device_code });
    let mut is_unreachable = false;
    while Instant::now() < end {
        tokio::time::sleep(interval).await;
        let request = api.request(Method::POST, &["auth", "device", "token"]).json(&body);
        match api.json(request).await {
            Err(CliError::Refused(problem)) if problem.code == "authorization_pending" => {}
            Err(CliError::Refused(problem)) if problem.code == "slow_down" => interval += SLOW_DOWN,
            Err(error) if error.is_transient() => {
                if !std::mem::replace(&mut is_unreachable, true) {
                    print_note(&format!("{error}; trying again"));
                }
                interval = (interval * 2).min(Duration::from_secs(MAX_INTERVAL_S));
            }
            answer => return answer,
        }
    }
    Err(CliError::Unsuccessful("the sign-in was not approved in time".into()))
}
