//! `muster switch`: continues in another tenant of the same person.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::client::ApiClient;
use crate::api::credential::with_tokens;
use crate::context::{self, Context};
use crate::error::CliError;
use crate::input::name_lookup;
use crate::output::printer::Output;
use crate::output::text::sanitize;

/// Continue in another tenant that you are a member of
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenant: an id, a name, or a unique prefix of one
    tenant: String,
}

/// Switches the stored session.
///
/// # Errors
/// [`CliError`]; [`CliError::Usage`] without a session, or for a tenant that the person is not in.
pub async fn run(args: Args, context: Context, output: Output) -> Result<u8, CliError> {
    let (context, member) = switched(&context, &args.tenant).await?;
    if let (Some(context), Some(path)) = (context, context::default_path()) {
        context::replace(&path, &context)?;
    }
    output.answer(&member, |member| {
        let text = |field: &str| member.get(field).and_then(Value::as_str).unwrap_or_default();
        sanitize(&format!("now in tenant {} as {}", text("tenant_name"), text("role")))
    })?;
    Ok(0)
}

/// The context with a session in this tenant, and the membership there. `None`: the session is in this tenant;
/// its stored tokens may be newer than those of `context`.
///
/// # Errors
/// As [`run`].
pub async fn switched(
    context: &Context,
    typed: &str,
) -> Result<(Option<Context>, Value), CliError> {
    if context.renewal.is_none() {
        let message = "an API key belongs to one tenant; sign in with `muster login --email`";
        return Err(CliError::Usage(message.into()));
    }
    let api = ApiClient::new(context)?;
    let me = api.json(api.request(Method::GET, &["me"])).await?;
    let memberships = me.get("memberships").and_then(Value::as_array);
    let tenants: Vec<Value> = memberships
        .into_iter()
        .flatten()
        .map(|member| json!({"id": member["tenant_id"], "name": member["tenant_name"]}))
        .collect();
    let tenant_id = name_lookup::find("membership", typed, &tenants)?;
    let current = memberships
        .into_iter()
        .flatten()
        .find(|member| member["tenant_id"] == tenant_id && me["tenant_id"] == tenant_id);
    if let Some(member) = current.cloned() {
        return Ok((None, member));
    }
    let body = json!({ "tenant_id": tenant_id });
    let request = api.request(Method::POST, &["auth", "switch"]).json(&body);
    let answer = api.json(request).await?;
    let member = answer.get("member").cloned().unwrap_or_default();
    Ok((Some(with_tokens(context.clone(), &answer)?), member))
}
