//! `/api/auth`

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::assertion_body::AssertionBody;
use super::setup::MemberView;
use crate::domain::access::allowance::Allowance;
use crate::domain::ids::{SessionId, TenantId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::cookies::{REFRESH_COOKIE, check_same_origin, clear_tokens, cookie, set_tokens};
use crate::http::extract::{Body, Empty, has_credential, unknown_client};
use crate::http::problem::{ApiResult, Problem, rate_limit_headers};
use crate::services::access::caller::{Caller, Client};
use crate::services::access::people::session_confirmation::GivenProof;
use crate::services::access::people::sign_in::challenge::WaitingSignIn;
use crate::services::access::people::sign_in::{
    Credentials, SessionTokens, SignInAnswer, SignedIn,
};
use crate::services::error::ServiceError;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(sign_in))
        .routes(routes!(refresh_session))
        .routes(routes!(sign_out))
        .routes(routes!(confirm_session))
        .routes(routes!(switch_tenant))
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    email: String,
    password: String,
    /// Default: the first tenant that the person is a member of.
    tenant_id: Option<TenantId>,
    /// Set the tokens as cookies, for a browser, and leave them out of the answer. Only a page of this
    /// server may ask for that.
    #[serde(default)]
    cookies: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshBody {
    /// Default: the one in the cookie.
    refresh_token: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfirmBody {
    /// Either this, `code` or `passkey`.
    password: Option<String>,
    /// The present six digits of the device of the second factor. Recovery codes do not count here.
    code: Option<String>,
    /// What a device signed. A person without a password has no passkey.
    passkey: Option<AssertionBody>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SwitchBody {
    tenant_id: TenantId,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
struct TokensView {
    session_id: SessionId,
    /// A JWT for `Authorization: Bearer`. Absent if it is in a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    access_expires_at: Timestamp,
    /// For `POST /api/auth/refresh`, once. Absent if it is in a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    refresh_expires_at: Timestamp,
}

/// A person who is signed in.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedInView {
    #[serde(flatten)]
    tokens: TokensView,
    member: MemberView,
}

/// The password was right, and the second factor is missing.
#[derive(Serialize, ToSchema)]
struct ChallengeView {
    /// For `POST /api/auth/login/code`.
    challenge: String,
    /// What completes the sign-in.
    methods: Vec<SignInMethod>,
    expires_at: Timestamp,
}

/// How a sign-in goes on after the password.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SignInMethod {
    /// A code of the device, with `POST /api/auth/login/code`.
    Totp,
    /// A recovery code, with `POST /api/auth/login/code`.
    RecoveryCode,
    /// A passkey, with `POST /api/auth/passkey`, which needs no password.
    Passkey,
}

/// When the password was proven.
#[derive(Debug, Serialize, ToSchema)]
struct ConfirmationView {
    confirmed_at: Timestamp,
}

impl TokensView {
    fn new(tokens: &SessionTokens, in_cookies: bool) -> Self {
        let shown = |token: &Zeroizing<String>| (!in_cookies).then(|| token.as_str().to_owned());
        Self {
            session_id: tokens.session_id,
            access_token: shown(&tokens.access_token),
            access_expires_at: tokens.access_expires_at,
            refresh_token: shown(&tokens.refresh_token),
            refresh_expires_at: tokens.refresh_expires_at,
        }
    }
}

/// The answer with tokens: never stored by anything in between.
fn with_tokens(
    state: &AppState,
    tokens: &SessionTokens,
    in_cookies: bool,
    view: impl Serialize,
) -> Response {
    let mut response = axum::Json(view).into_response();
    let headers = response.headers_mut();
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    if in_cookies {
        set_tokens(headers, tokens, state.clock.now());
    }
    response
}

pub(super) fn signed_in(state: &AppState, made: SignedIn, in_cookies: bool) -> Response {
    let tokens = TokensView::new(&made.tokens, in_cookies);
    let view = SignedInView { tokens, member: made.member.into() };
    with_tokens(state, &made.tokens, in_cookies, view)
}

fn challenge(waiting: &WaitingSignIn) -> Response {
    let (challenge, expires_at) = (waiting.challenge.to_string(), waiting.expires_at);
    let mut methods = vec![SignInMethod::RecoveryCode];
    if waiting.has_totp {
        methods.insert(0, SignInMethod::Totp);
    }
    if waiting.has_passkey {
        methods.push(SignInMethod::Passkey);
    }
    let view = ChallengeView { challenge, methods, expires_at };
    let mut response = (StatusCode::ACCEPTED, axum::Json(view)).into_response();
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

fn limited(mut response: Response, allowance: Allowance) -> Response {
    rate_limit_headers(response.headers_mut(), allowance);
    response
}

/// Sign in with an address and a password.
///
/// The answer shows neither by its content nor by its time whether the address is known. Ten attempts a
/// minute are allowed from one address and for one account. For a person with a second factor the answer is a
/// challenge, and `POST /api/auth/login/code` completes the sign-in.
#[utoipa::path(post, path = "/api/auth/login", tag = "accounts", security(()), request_body = SignInBody,
    responses((status = 200, body = SignedInView), (status = 202, body = ChallengeView),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn sign_in(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<SignInBody>,
) -> ApiResult<Response> {
    if body.cookies {
        check_same_origin(&parts, &state)?;
    }
    let client = unknown_client(&parts);
    let password = Zeroizing::new(body.password);
    let given = Credentials { email: body.email, password, tenant_id: body.tenant_id };
    let (allowance, result) = state.services.sign_in.sign_in(&client, given).await?;
    let response = match result {
        Ok(SignInAnswer::SignedIn(made)) => signed_in(&state, made, body.cookies),
        Ok(SignInAnswer::Waiting(waiting)) => challenge(&waiting),
        Err(error) => Problem::from(error).into_response(),
    };
    Ok(limited(response, allowance))
}

/// Exchange a refresh token for the next one and an access token.
///
/// A refresh token works once. Repeated within 10 seconds, for a client that lost the answer, it gets the
/// same next token. Later it ends the session, because another person may have it.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "accounts", security(()), request_body = RefreshBody,
    responses((status = 200, body = TokensView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem)))]
async fn refresh_session(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<RefreshBody>,
) -> ApiResult<Response> {
    let client: Client = unknown_client(&parts);
    let in_cookies = body.refresh_token.is_none();
    let text = match body.refresh_token {
        Some(text) => Zeroizing::new(text),
        None => {
            let text = cookie(&parts.headers, REFRESH_COOKIE);
            let text = text.ok_or_else(|| Problem::unauthenticated("send the refresh token"))?;
            check_same_origin(&parts, &state)?;
            Zeroizing::new(text.to_owned())
        }
    };
    let tokens = state.services.sign_in.refresh(&client, &text).await?;
    let view = TokensView::new(&tokens, in_cookies);
    Ok(with_tokens(&state, &tokens, in_cookies, view))
}

/// Sign out: end the session of this request. Its tokens are invalid as soon as this request returns.
#[utoipa::path(post, path = "/api/auth/logout", tag = "accounts", responses((status = 204)))]
async fn sign_out(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    state.services.sign_in.sign_out(&caller).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if !has_credential(&headers) {
        clear_tokens(response.headers_mut());
    }
    Ok(response)
}

/// Prove the password again, give a code of the second factor, or use a passkey. Operations that need it then
/// work for 15 minutes.
#[utoipa::path(post, path = "/api/auth/confirm", tag = "accounts", request_body = ConfirmBody,
    responses((status = 200, body = ConfirmationView), (status = 409, body = Problem)))]
async fn confirm_session(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<ConfirmBody>,
) -> ApiResult<axum::Json<ConfirmationView>> {
    let (password, code) = (body.password.map(Zeroizing::new), body.code.map(Zeroizing::new));
    let given = match (password, code, body.passkey) {
        (Some(password), None, None) => GivenProof::Password(password),
        (None, Some(code), None) => GivenProof::Code(code),
        (None, None, Some(passkey)) => {
            let assertion = passkey.assertion()?;
            let passkeys = &state.services.passkeys;
            let confirmed_at = passkeys.confirm(&caller, &passkey.challenge, &assertion).await?;
            return Ok(axum::Json(ConfirmationView { confirmed_at }));
        }
        (None, None, None) => {
            let problem = "is missing; give the password, `code` or `passkey`";
            return Err(ServiceError::invalid_field("password", problem).into());
        }
        _ => {
            let problem = "must be given alone: the password, `code` or `passkey`";
            return Err(ServiceError::invalid_field("code", problem).into());
        }
    };
    let confirmed_at = state.services.sign_in.confirm(&caller, given).await?;
    Ok(axum::Json(ConfirmationView { confirmed_at }))
}

/// Continue in another tenant of the same person. The session of this request ends.
#[utoipa::path(post, path = "/api/auth/switch", tag = "accounts", request_body = SwitchBody,
    responses((status = 200, body = SignedInView), (status = 404, body = Problem)))]
async fn switch_tenant(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<SwitchBody>,
) -> ApiResult<Response> {
    let made = state.services.sign_in.switch_tenant(&caller, body.tenant_id).await?;
    Ok(signed_in(&state, made, !has_credential(&headers)))
}
