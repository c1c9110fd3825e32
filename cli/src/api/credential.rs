//! What a client presents to the server: an API key, or the access token of a person, which is renewed for
//! as long as a command runs.
//!
//! Several commands may run at once with one stored session. A refresh token works once, so they renew one
//! after another, and each first reads what another one has stored.

use std::fs::File;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::context::{self, Context, Renewal};
use crate::error::CliError;

/// An access token that expires earlier is renewed before a request.
const LEAST_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// Characters at the start of a refresh token that name its session: `mst_refresh_` and an id.
const SESSION_CHARS: usize = 34;

/// The credential of a client.
#[derive(Debug)]
pub struct Credential {
    context: Mutex<Context>,
    is_renewable: bool,
}

impl Credential {
    /// # Errors
    /// [`CliError::Usage`] if the key is not a valid header value.
    pub fn new(context: &Context) -> Result<Self, CliError> {
        header(context)?;
        let is_renewable = context.renewal.is_some();
        Ok(Self { context: Mutex::new(context.clone()), is_renewable })
    }

    /// True for a person's session.
    pub fn is_renewable(&self) -> bool {
        self.is_renewable
    }

    /// Holds the credential for one request. A token that expires within minutes is due, and so is one that
    /// the server `refused` because it has expired: the clock of this host may be behind.
    pub async fn hold(&self, refused: Option<&HeaderValue>) -> HeldCredential<'_> {
        let context = self.context.lock().await;
        let refused = refused.cloned();
        let mut held = HeldCredential { context, refused, path: None, lock: None };
        if !held.is_due() {
            return held;
        }
        let Some(path) = context::default_path() else { return held };
        held.lock = lock(path.clone()).await;
        if let Some(stored) = stored_session(&path, &held.context) {
            *held.context = stored;
            held.path = Some(path);
        }
        held
    }
}

/// The credential of one request, which no other request of this client renews meanwhile.
pub struct HeldCredential<'a> {
    context: MutexGuard<'a, Context>,
    refused: Option<HeaderValue>,
    /// Where the session is stored. One that was forgotten meanwhile stays so.
    path: Option<PathBuf>,
    /// Nor another command on this host.
    lock: Option<File>,
}

impl HeldCredential<'_> {
    /// The body of a refresh, if the token must be renewed first.
    pub fn due_refresh(&self) -> Option<Value> {
        let renewal = self.context.renewal.as_ref().filter(|_| self.is_due())?;
        Some(json!({ "refresh_token": renewal.refresh_token.expose_secret() }))
    }

    fn is_due(&self) -> bool {
        let Some(renewal) = &self.context.renewal else { return false };
        let is_refused = self.refused.is_some() && header(&self.context).ok() == self.refused;
        is_refused || is_due(renewal)
    }

    /// Takes the tokens of an answer to a refresh, and stores them for other commands.
    ///
    /// # Errors
    /// [`CliError::Answer`] if it has none, [`CliError::File`].
    pub fn renew(&mut self, answer: &Value) -> Result<(), CliError> {
        *self.context = with_tokens(self.context.clone(), answer)?;
        match &self.path {
            Some(path) => context::store(path, &self.context),
            None => Ok(()),
        }
    }

    /// The header for the request.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the token is not a valid header value.
    pub fn header(&self) -> Result<HeaderValue, CliError> {
        header(&self.context)
    }
}

/// The stored context, if it is of the same session.
fn stored_session(path: &Path, known: &Context) -> Option<Context> {
    let stored = context::read(path, known.insecure).ok()??;
    let session = |context: &Context| {
        let token = context.renewal.as_ref()?.refresh_token.expose_secret();
        token.get(..SESSION_CHARS).map(str::to_owned)
    };
    let is_same = stored.server == known.server
        && session(&stored).is_some()
        && session(&stored) == session(known);
    is_same.then_some(stored)
}

/// Waits for other commands that renew. A folder that can't be written to has no lock, and nothing is
/// stored in it either.
async fn lock(path: PathBuf) -> Option<File> {
    let locked = tokio::task::spawn_blocking(move || context::lock(&path));
    locked.await.ok()?.ok()
}

fn header(context: &Context) -> Result<HeaderValue, CliError> {
    let text = format!("Bearer {}", context.api_key.expose_secret());
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| CliError::Usage("the API key has invalid characters".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_due(renewal: &Renewal) -> bool {
    let expires_at = DateTime::parse_from_rfc3339(&renewal.access_expires_at);
    expires_at.map_or(true, |at| at.with_timezone(&Utc) - Utc::now() < LEAST_LIFETIME)
}

/// The context with the tokens of an answer.
///
/// # Errors
/// [`CliError::Answer`] if it has none.
pub fn with_tokens(context: Context, answer: &Value) -> Result<Context, CliError> {
    let text = |field: &str| {
        let text = answer.get(field).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| CliError::Answer(format!("it has no `{field}`")))
    };
    let renewal = Renewal {
        refresh_token: text("refresh_token")?.into(),
        access_expires_at: text("access_expires_at")?,
    };
    Ok(Context { api_key: text("access_token")?.into(), renewal: Some(renewal), ..context })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_expires_and_if_its_end_is_unknown() {
        let is_due =
            |text: String| is_due(&Renewal { refresh_token: "x".into(), access_expires_at: text });
        let after = |minutes| (Utc::now() + TimeDelta::minutes(minutes)).to_rfc3339();
        assert!(!is_due(after(10)));
        assert!(is_due(after(4)) && is_due(after(-10)) && is_due("soon".into()));
    }
}
