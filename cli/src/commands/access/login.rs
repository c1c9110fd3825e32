//! `muster login`: signs a person in, or verifies an API key, and stores the session or the key.

mod certificate;
mod decision;
mod device;

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use self::decision::Decision;
use super::switch::switched;
use crate::api::client::ApiClient;
use crate::api::credential::with_tokens;
use crate::context::{self, Context, Overrides, check_server};
use crate::error::CliError;
use crate::output::printer::Output;
use crate::output::text::sanitize;
use crate::session::Session;

/// Most bytes that are read from standard input. Keys are much shorter.
const MAX_KEY_BYTES: u64 = 4096;

/// Sign in, or verify an API key, and store the session or the key for later commands
///
/// At a terminal it shows a code, which you approve in a browser or with `muster login approve` where you
/// are signed in. Otherwise, the key comes from MUSTER_API_KEY, else from standard input. With --email, the
/// password comes from a prompt or standard input, as the code of a second factor does. Session or key are stored in
/// ~/.config/muster/config.toml, readable by its owner only.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    decision: Option<Decision>,

    /// Show a code to approve, even without a terminal
    #[arg(long, conflicts_with_all = ["key_file", "key", "email"])]
    device: bool,

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

    /// Make a key and get a certificate for it, which later commands show to the server. Repeat it to renew
    #[arg(long)]
    certificate: bool,
}

impl Args {
    /// The decision about the sign-in of another device, for [`decide`].
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }
}

/// Decides about the sign-in of another device.
///
/// # Errors
/// [`CliError`].
pub async fn decide(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.decision {
        Some(decision) => decision::run(decision, session).await,
        None => Ok(0),
    }
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
        let code = sign_in(context, &path, (email, args.tenant), output).await?;
        return with_certificate(args.certificate, &path, insecure).await.map(|()| code);
    }
    let has_key = args.key_file.is_some() || args.key.is_some() || overrides.api_key.is_some();
    if args.device || (!has_key && std::io::stdin().is_terminal()) {
        let api_key = SecretString::default();
        let context = Context { server, api_key, renewal: None, insecure, ca_file };
        let code = device::sign_in(context, &path, output).await?;
        return with_certificate(args.certificate, &path, insecure).await.map(|()| code);
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
        return Err(CliError::Usage(
            "the API key is empty; add --device to sign in with a code".into(),
        ));
    }
    let context = Context { server, api_key, renewal: None, insecure, ca_file };
    if args.certificate {
        // The request below may need it.
        certificate::obtain(&context).await?;
    }
    let api = ApiClient::new(&context)?;
    api.json(api.request(Method::GET, &["agents"]).query(&[("limit", "1")])).await?;
    context::replace(&path, &context)?;

    let stored = json!({ "server_url": context.server.as_str(), "path": path });
    output.answer(&stored, |_| {
        format!("logged in to {}; the key is stored in {}", context.server, path.display())
    })?;
    Ok(0)
}

/// Gets a certificate for the session that was just stored.
async fn with_certificate(is_wanted: bool, path: &Path, insecure: bool) -> Result<(), CliError> {
    match context::read(path, insecure)?.filter(|_| is_wanted) {
        Some(context) => certificate::obtain(&context).await,
        None => Ok(()),
    }
}

async fn sign_in(
    context: Context,
    path: &Path,
    (email, tenant): (String, Option<String>),
    output: Output,
) -> Result<u8, CliError> {
    let (password, code) = read_password_and_code()?;
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
    let answer = match answer.get("challenge").and_then(Value::as_str) {
        Some(challenge) => {
            let code = code.map_or_else(read_code, Ok)?;
            let body = json!({ "challenge": challenge, "code": code });
            api.json(api.request(Method::POST, &["auth", "login", "code"]).json(&body)).await?
        }
        None => answer,
    };
    let context = with_tokens(context, &answer)?;
    let member = answer.get("member").cloned().unwrap_or_default();
    let (context, member) = match name {
        Some(name) => {
            let (switched, member) = switched(&context, &name).await?;
            (switched.unwrap_or(context), member)
        }
        None => (context, member),
    };
    store_session(&context, path, &member, output)
}

/// Stores a session, and shows whose it is.
fn store_session(
    context: &Context,
    path: &Path,
    member: &Value,
    output: Output,
) -> Result<u8, CliError> {
    context::replace(path, context)?;
    let stored = json!({ "server_url": context.server.as_str(), "path": path, "member": member });
    let text = |field: &str| member.get(field).and_then(Value::as_str).unwrap_or_default();
    output.answer(&stored, |_| {
        let text = format!(
            "signed in to {} as {}, tenant {}; the session is stored in {}",
            context.server,
            text("email"),
            text("tenant_name"),
            path.display()
        );
        sanitize(&text)
    })?;
    Ok(0)
}

/// A password from a prompt without echo, or standard input.
///
/// # Errors
/// [`CliError::Usage`] if it is empty, [`CliError::Terminal`] if it cannot be read.
pub fn read_password(prompt: &str) -> Result<String, CliError> {
    given(read_secret(prompt)?)
}

/// A password, and the code of a second factor if standard input has a second line. A terminal asks for the
/// code later.
fn read_password_and_code() -> Result<(String, Option<String>), CliError> {
    let text = read_password("Password: ")?;
    if std::io::stdin().is_terminal() {
        return Ok((text, None));
    }
    let mut lines = text.lines().map(str::to_owned);
    Ok((given(lines.next().unwrap_or_default())?, lines.next()))
}

fn read_code() -> Result<String, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "the account has a second factor; give its code as the second line of standard input"
                .into(),
        ));
    }
    read_secret("Code, or a recovery code: ")
}

/// A new password. A terminal asks for it twice, because the input is not shown.
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

/// A secret and a new password: from prompts without echo, or the first two lines of standard input.
///
/// # Errors
/// As [`read_new_password`].
pub fn read_with_new_password(prompt: &str) -> Result<(String, String), CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok((rpassword::prompt_password(prompt)?, read_new_password()?));
    }
    let mut text = String::new();
    stdin.lock().take(MAX_KEY_BYTES).read_to_string(&mut text)?;
    let mut lines = text.lines().map(str::to_owned);
    Ok((lines.next().unwrap_or_default(), given(lines.next().unwrap_or_default())?))
}

fn given(password: String) -> Result<String, CliError> {
    match password.is_empty() {
        true => Err(CliError::Usage("no password was given".to_owned())),
        false => Ok(password),
    }
}
