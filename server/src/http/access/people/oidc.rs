//! `/api/auth/oidc`

use axum::extract::{Path, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::http::AppState;
use crate::http::cookies::{ATTEMPT_COOKIE, attempt_cookie, clear_attempt, cookie, set_tokens};
use crate::http::extract::{Body, Params, unknown_client};
use crate::http::origin::RequestOrigin;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::access::people::oidc::{BegunSignIn, OidcReturn, OidcStart};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_sign_in_providers))
        .routes(routes!(start_single_sign_on))
        .routes(routes!(complete_single_sign_on))
        .routes(routes!(link_identity))
}

/// A provider of single sign-on.
#[derive(Debug, Serialize, ToSchema)]
struct SignInProviderView {
    /// Part of the paths.
    name: String,
    /// For people.
    title: String,
    /// Where a browser begins to sign in.
    start_path: String,
}

/// The providers that the operator of the server configured.
#[derive(Debug, Serialize, ToSchema)]
struct SignInProvidersView {
    items: Vec<SignInProviderView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StartParams {
    /// A path of this server where the browser goes afterwards, default `/`.
    return_to: Option<String>,
    /// Ask the provider to prove the person again. The session then counts as confirmed, if the provider
    /// says when the person signed in.
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReturnParams {
    /// The code of the provider.
    code: Option<String>,
    /// What this server sent along.
    #[serde(default)]
    state: String,
    /// The provider, as RFC 9207 says.
    iss: Option<String>,
}

// Without `Debug`, because it holds a code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LinkIdentity {
    /// Six digits of the device, or a recovery code, of a person who has a second factor.
    code: Option<String>,
    /// A path of this server where the browser goes afterwards, default `/`.
    return_to: Option<String>,
}

/// Where the browser must go. The answer sets a cookie that it must keep.
#[derive(Debug, Serialize, ToSchema)]
struct AuthorizationView {
    authorization_url: String,
}

/// List the providers of single sign-on.
#[utoipa::path(get, path = "/api/auth/oidc/providers", tag = "accounts", security(()),
    responses((status = 200, body = SignInProvidersView)))]
async fn list_sign_in_providers(State(state): State<AppState>) -> axum::Json<SignInProvidersView> {
    let offered = state.services.oidc.offered().into_iter();
    let items = offered.map(|provider| SignInProviderView {
        start_path: format!("/api/auth/oidc/{}/start", provider.name),
        name: provider.name,
        title: provider.title,
    });
    axum::Json(SignInProvidersView { items: items.collect() })
}

/// Begin to sign in with a provider: send a browser there. It comes back to the callback.
#[utoipa::path(get, path = "/api/auth/oidc/{provider}/start", tag = "accounts", security(()),
    params(("provider" = String, Path, description = "The name of the provider."), StartParams),
    responses((status = 303), (status = 404, body = Problem), (status = 422, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn start_single_sign_on(
    State(state): State<AppState>,
    Path(provider): Path<String>,
    parts: Parts,
    origin: RequestOrigin,
    Params(params): Params<StartParams>,
) -> ApiResult<Response> {
    let callback = callback(origin, &provider)?;
    let start = OidcStart {
        provider: &provider,
        callback: &callback,
        return_to: params.return_to.as_deref(),
        confirms: params.confirm,
    };
    let begun = state.services.oidc.start(&unknown_client(&parts), start).await?;
    redirect(&begun.location, |headers| keep(headers, &begun))
}

/// Come back from a provider. It signs the person in, sets the tokens as cookies, and sends the browser to
/// the path that it wanted.
///
/// A person joins at the first sign-in: by a group or a domain of the provider, by an invitation to the
/// address that the provider has verified, or with a tenant of its own where the operator allows that. An
/// address that has an account is never enough: its person signs in and links the provider.
#[utoipa::path(get, path = "/api/auth/oidc/{provider}/callback", tag = "accounts", security(()),
    params(("provider" = String, Path, description = "The name of the provider."), ReturnParams),
    responses((status = 303), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem),
        (status = 503, body = Problem)))]
async fn complete_single_sign_on(
    State(state): State<AppState>,
    Path(provider): Path<String>,
    parts: Parts,
    Params(params): Params<ReturnParams>,
) -> ApiResult<Response> {
    let brought = OidcReturn {
        provider: &provider,
        cookie: cookie(&parts.headers, ATTEMPT_COOKIE).unwrap_or_default(),
        state: &params.state,
        code: params.code.as_deref(),
        issuer: params.iss.as_deref(),
    };
    let completed = state.services.oidc.complete(&unknown_client(&parts), brought).await;
    let completed = match completed {
        Ok(completed) => completed,
        Err(error) => {
            let mut response = Problem::from(error).into_response();
            clear_attempt(response.headers_mut());
            return Ok(response);
        }
    };
    redirect(&completed.return_to, |headers| {
        clear_attempt(headers);
        if let Some(tokens) = &completed.tokens {
            set_tokens(headers, tokens, state.clock.now());
        }
    })
}

/// Begin to link an identity at a provider to the account of the person, who then can sign in with both. Only
/// for a person who gave the password in the last 15 minutes, and a code if it has a second factor. A mail notifies
/// the person.
#[utoipa::path(post, path = "/api/auth/oidc/{provider}/link", tag = "accounts", request_body = LinkIdentity,
    params(("provider" = String, Path, description = "The name of the provider.")),
    responses((status = 200, body = AuthorizationView), (status = 404, body = Problem)))]
async fn link_identity(
    State(state): State<AppState>,
    caller: Caller,
    Path(provider): Path<String>,
    origin: RequestOrigin,
    Body(body): Body<LinkIdentity>,
) -> ApiResult<Response> {
    let callback = callback(origin, &provider)?;
    let start = OidcStart {
        provider: &provider,
        callback: &callback,
        return_to: body.return_to.as_deref(),
        confirms: false,
    };
    let begun = state.services.oidc.link(&caller, start, body.code.map(Zeroizing::new)).await?;
    let view = AuthorizationView { authorization_url: begun.location.clone() };
    let mut response = axum::Json(view).into_response();
    keep(response.headers_mut(), &begun);
    Ok(response)
}

/// The address that the provider sends the browser back to. It must be registered there.
fn callback(origin: RequestOrigin, provider: &str) -> Result<String, Problem> {
    let origin = origin.required()?;
    Ok(format!("{origin}/api/auth/oidc/{provider}/callback"))
}

fn keep(headers: &mut HeaderMap, begun: &BegunSignIn) {
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    if let Some(value) = attempt_cookie(&begun.cookie) {
        headers.append(SET_COOKIE, value);
    }
}

fn redirect(location: &str, add: impl FnOnce(&mut HeaderMap)) -> ApiResult<Response> {
    let location = HeaderValue::try_from(location).map_err(|_| Problem::not_found("path"))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    add(response.headers_mut());
    Ok(response)
}
