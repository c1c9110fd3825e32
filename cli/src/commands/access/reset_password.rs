//! `muster reset-password`: a new password for a person who forgot it.

use reqwest::Method;
use serde_json::json;

use super::login::read_with_new_password;
use super::register::without_key;
use crate::api::client::ApiClient;
use crate::context::{Context, Overrides};
use crate::error::CliError;
use crate::explanation::{OptionNames, explain, option};
use crate::output::printer::{Output, print_note};

/// The options that set fields of the API.
const OPTIONS: OptionNames = &[
    option("email", "--email").expects("an address such as ada@example.com"),
    option("password", "the password"),
];

/// Choose a new password
///
/// With --email, a token is sent to the address. With --complete, the token and the new password come from
/// prompts, or from two lines of standard input; all of your sessions end.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of your account
    #[arg(
        long,
        value_name = "ADDRESS",
        conflicts_with = "complete",
        required_unless_present = "complete"
    )]
    email: Option<String>,

    /// Use the token of the mail
    #[arg(long)]
    complete: bool,
}

/// Requests a token, or uses it.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, overrides: Overrides, output: Output) -> Result<u8, CliError> {
    let context = without_key(overrides)?;
    let Some(email) = args.email else { return complete(context, output).await };
    let api = ApiClient::new(&context)?;
    let path = ["auth", "password-reset"];
    let request = api.request(Method::POST, &path).json(&json!({ "email": email }));
    let answer = api.json(request).await.map_err(|error| explain(error, OPTIONS))?;
    output.answer(&answer, |_| "requested".to_owned())?;
    print_note(
        "if the address has an account, a token is sent to it; run `muster reset-password --complete`",
    );
    Ok(0)
}

async fn complete(context: Context, output: Output) -> Result<u8, CliError> {
    let (token, password) = read_with_new_password("Token: ")?;
    let context = Context { api_key: token.trim().into(), ..context };
    let api = ApiClient::new(&context)?;
    let path = ["auth", "password-reset", "complete"];
    let request = api.request(Method::POST, &path).json(&json!({ "password": password }));
    let answer = api.json(request).await.map_err(|error| explain(error, OPTIONS))?;
    output.answer(&answer, |_| "the password is changed; sign in with it".to_owned())?;
    print_note("links to providers of single sign-on, if there were any, are removed");
    Ok(0)
}
