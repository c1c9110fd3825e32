//! `muster register` and `muster verify-email`: an account with a tenant of its own.

use reqwest::Method;
use serde_json::{Value, json};

use super::login::{read_new_password, read_secret};
use crate::api::client::ApiClient;
use crate::context::{Context, Overrides, check_server};
use crate::error::CliError;
use crate::explanation::{OptionNames, explain, option};
use crate::output::printer::{Output, print_note};

/// The options that set fields of the API.
const OPTIONS: OptionNames = &[
    option("email", "--email").expects("an address such as ada@example.com"),
    option("name", "--name").expects("1 to 128 printable characters"),
    option("tenant_name", "--tenant").expects("1 to 128 printable characters"),
    option("password", "the password"),
];

/// Create an account and a tenant of your own at a server that permits it
///
/// The password comes from a prompt or standard input. A code is sent to the address; finish with
/// `muster verify-email`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to sign in with
    #[arg(long, value_name = "ADDRESS")]
    email: String,

    /// Your name [default: the part of the address before the @]
    #[arg(long)]
    name: Option<String>,

    /// Name of the tenant [default: your name]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

/// Finish `muster register` with the code that was sent to the address
///
/// The code comes from a prompt or standard input. Then sign in with `muster login --email`.
#[derive(Debug, clap::Args)]
pub struct VerifyEmailArgs {
    /// Id of the registration, as `muster register` printed it
    registration: String,

    /// Send another code instead; the one before becomes invalid
    #[arg(long)]
    resend: bool,
}

/// Starts a registration.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, overrides: Overrides, output: Output) -> Result<u8, CliError> {
    let api = ApiClient::new(&without_key(overrides)?)?;
    let mut body = json!({ "email": args.email, "password": read_new_password()? });
    for (field, value) in [("name", args.name), ("tenant_name", args.tenant)] {
        if let Some(value) = value {
            body[field] = value.into();
        }
    }
    let request = api.request(Method::POST, &["auth", "register"]).json(&body);
    let open = api.json(request).await.map_err(|error| explain(error, OPTIONS))?;
    output.details(&open)?;
    let id = open.get("registration_id").and_then(Value::as_str).unwrap_or_default();
    print_note(&format!("a code is sent to the address; run `muster verify-email {id}`"));
    Ok(0)
}

/// Finishes a registration, or sends another code.
///
/// # Errors
/// [`CliError`].
pub async fn verify(
    args: VerifyEmailArgs,
    overrides: Overrides,
    output: Output,
) -> Result<u8, CliError> {
    let api = ApiClient::new(&without_key(overrides)?)?;
    let mut body = json!({ "registration_id": args.registration });
    let step = if args.resend {
        "resend"
    } else {
        body["code"] = read_secret("Code: ")?.trim().into();
        "verify"
    };
    let request = api.request(Method::POST, &["auth", "register", step]).json(&body);
    let answer = api.json(request).await?;
    output.details(&answer)?;
    Ok(0)
}

/// A server, and no key: none is sent with what a stranger does.
///
/// # Errors
/// [`CliError::Usage`] without a server.
pub(super) fn without_key(overrides: Overrides) -> Result<Context, CliError> {
    let server = overrides.server.ok_or_else(|| {
        CliError::Usage("no server is set; pass --server https://muster.example".into())
    })?;
    let server = check_server(&server, overrides.insecure)?;
    let (insecure, ca_file) = (overrides.insecure, overrides.ca_file);
    Ok(Context { server, api_key: String::new().into(), renewal: None, insecure, ca_file })
}
