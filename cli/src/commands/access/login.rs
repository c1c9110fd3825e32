//! `muster login`: verifies an API key, or signs a person in, and stores the key or the session.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::switch::switched;
use crate::api::client::ApiClient;
use crate::context::{self, Context, Overrides, Renewal, check_server};
use crate::error::CliError;
use crate::output::printer::Output;
use crate::output::text::sanitize;

/// Most bytes that are read from standard input. Keys are much shorter.
const MAX_KEY_BYTES: u64 = 4096;

/// Verify an API key, or sign in with an address and a password, and store the key or the session for
/// later commands
///
/// Without an option, the key comes from MUSTER_API_KEY, else from a prompt or standard input. With
/// --email, the password comes from a prompt or standard input. Key or session are stored in
/// ~/.config/muster/config.toml, readable by its owner only.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File that holds only the key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "email"])]
    key_file: Option<PathBuf>,

    /// The key itself; prefer --key-file or standard input, because every user of this host can read the
    /// arguments of a process and shells store them
    #[arg(long, value_name = "KEY", conflicts_with = "email")]
    key: Option<SecretString>,

    /// Address to sign in with
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,

    /// Tenant to sign in to: an id, a name, or a unique prefix of one [default: the first one that you are a
    /// member of]
    #[arg(long, value_name = "TENANT", requires = "email")]
    tenant: Option<String>,
}

/// Verifies the key with one request that changes nothing, then stores it.
///
/// # Errors
/// [`CliError`]; then nothing is stored.
pub async fn run(args: Args, overrides: Overrides, output: Output) -> Result<u8, CliError> {
    let server = overrides.server.ok_or_else(|| {
        CliError::Usage(
            "no server is set; run `muster login --server https://muster.example`".into(),
        )
    })?;
    let server = check_server(&server, overrides.insecure)?;
    let path = context::default_path().ok_or_else(|| {
        CliError::Usage("no home directory to store the key in; set XDG_CONFIG_HOME".into())
    })?;
    // Later commands may run in another directory.
    let ca_file = overrides
        .ca_file
        .map(|path| std::path::absolute(&path).map_err(CliError::file("resolve", &path)));
    let ca_file = ca_file.transpose()?;
    let insecure = overrides.insecure;
    if let Some(email) = args.email {
        // No key is sent with a sign-in.
        let context =
            Context { server, api_key: SecretString::default(), renewal: None, insecure, ca_file };
        return sign_in(context, &path, (email, args.tenant), output).await;
    }
    let given = match args.key_file {
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(CliError::file("read", &path))?;
            Some(text.trim().into())
        }
        None => args.key.or(overrides.api_key),
    };
    let api_key = match given {
        Some(key) => key,
        None => read_secret("API key: ")?.trim().into(),
    };
    if api_key.expose_secret().is_empty() {
        return Err(CliError::Usage("the API key is empty".into()));
    }
    let context = Context { server, api_key, renewal: None, insecure, ca_file };
    let api = ApiClient::new(&context)?;
    api.json(api.request(Method::GET, &["agents"]).query(&[("limit", "1")])).await?;
    context::store(&path, &context)?;

    let stored = json!({ "server_url": context.server.as_str(), "path": path });
    output.answer(&stored, |_| {
        format!("logged in to {}; the key is stored in {}", context.server, path.display())
    })?;
    Ok(0)
}

async fn sign_in(
    context: Context,
    path: &Path,
    (email, tenant): (String, Option<String>),
    output: Output,
) -> Result<u8, CliError> {
    let password = read_password("Password: ")?;
    let api = ApiClient::new(&context)?;
    let mut body = json!({ "email": email, "password": password.as_str() });
    let (id, name) = match tenant {
        Some(tenant) if uuid::Uuid::try_parse(&tenant).is_ok() => (Some(tenant), None),
        tenant => (None, tenant),
    };
    if let Some(id) = id {
        body["tenant_id"] = id.into();
    }
    let request = api.request(Method::POST, &["auth", "login"]).json(&body);
    let answer = api.json(request).await?;
    let context = with_tokens(context, &answer)?;
    let member = answer.get("member").cloned().unwrap_or_default();
    let (context, member) = match name {
        Some(name) => switched(context, &name).await?,
        None => (context, member),
    };
    context::store(path, &context)?;
    let stored = json!({ "server_url": context.server.as_str(), "path": path, "member": member });
    let tenant = member.get("tenant_name").and_then(Value::as_str).unwrap_or_default().to_owned();
    output.answer(&stored, |_| {
        let text = format!(
            "signed in to {} as {email}, tenant {tenant}; the session is stored in {}",
            context.server,
            path.display()
        );
        sanitize(&text)
    })?;
    Ok(0)
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

/// A password from a prompt without echo, or standard input.
///
/// # Errors
/// [`CliError::Usage`] if it is empty, [`CliError::Terminal`] if it cannot be read.
pub fn read_password(prompt: &str) -> Result<String, CliError> {
    match read_secret(prompt)? {
        password if password.is_empty() => Err(CliError::Usage("no password was given".to_owned())),
        password => Ok(password),
    }
}

/// A new password. A terminal asks for it twice, because nobody sees what they type.
///
/// # Errors
/// As [`read_password`]; [`CliError::Usage`] if the two differ.
pub fn read_new_password() -> Result<String, CliError> {
    let password = read_password("New password: ")?;
    if std::io::stdin().is_terminal() && read_secret("New password again: ")? != password {
        return Err(CliError::Usage("the two passwords differ; try again".to_owned()));
    }
    Ok(password)
}

/// A secret from a prompt without echo, or the first line of standard input. Never an argument.
///
/// # Errors
/// [`CliError::Terminal`] if it cannot be read.
pub fn read_secret(prompt: &str) -> Result<String, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(rpassword::prompt_password(prompt)?);
    }
    let mut text = String::new();
    stdin.lock().take(MAX_KEY_BYTES).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
