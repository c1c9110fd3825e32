//! `/api/me/passkeys`, and sign-in with a passkey.

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::assertion_body::{AssertionBody, bytes};
use super::sign_in::{SignedInView, signed_in};
use crate::domain::access::people::passkey::{MadePasskey, PasskeyRecord};
use crate::domain::ids::{PasskeyId, TenantId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::cookies::check_same_origin;
use crate::http::extract::{Body, Empty, Id, unknown_client};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(ask_for_passkey))
        .routes(routes!(sign_in_with_passkey))
        .routes(routes!(list_passkeys, add_passkey))
        .routes(routes!(begin_passkey))
        .routes(routes!(remove_passkey))
}

/// What a browser needs to use a passkey with `navigator.credentials.get`.
#[derive(Serialize, ToSchema)]
struct PasskeyChallengeView {
    /// For `POST /api/auth/passkey` or `POST /api/auth/confirm`, once.
    challenge: String,
    /// `rpId`
    host: String,
    /// `challenge`, in base64url.
    nonce: String,
    expires_at: Timestamp,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasskeySignIn {
    passkey: AssertionBody,
    /// Default: the first tenant that the person is a member of.
    tenant_id: Option<TenantId>,
    /// Set the tokens as cookies, for a browser, and leave them out of the answer. Only a page of this
    /// server may ask for that.
    #[serde(default)]
    cookies: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FactorProof {
    /// The present six digits of the device, or a recovery code. A person without a second factor needs none,
    /// and neither does one who confirmed the session with a passkey.
    code: Option<String>,
}

/// What a browser needs to make a passkey with `navigator.credentials.create`.
#[derive(Serialize, ToSchema)]
struct NewPasskeyView {
    /// For `POST /api/me/passkeys`, once.
    challenge: String,
    /// `rp.id`
    host: String,
    /// `challenge`, in base64url.
    nonce: String,
    /// `user.id`, in base64url.
    user_handle: String,
    /// `user.name`
    user_name: String,
    /// `user.displayName`
    user_title: String,
    /// `pubKeyCredParams`: numbers of COSE, the preferred one first.
    algorithms: Vec<i64>,
    /// `excludeCredentials`: passkeys of the person, in base64url.
    known: Vec<String>,
    expires_at: Timestamp,
}

/// A passkey that a device made, as `navigator.credentials.create` returns it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddPasskey {
    /// Of `POST /api/me/passkeys/challenge`.
    challenge: String,
    /// How the person calls the device.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// `rawId`, in base64url.
    credential_id: String,
    /// `response.clientDataJSON`, in base64url.
    client_data: String,
    /// `response.attestationObject`, in base64url.
    attestation_object: String,
}

/// A passkey of the person.
#[derive(Debug, Serialize, ToSchema)]
struct PasskeyView {
    id: PasskeyId,
    name: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
}

/// The passkeys of a person, at most 16.
#[derive(Debug, Serialize, ToSchema)]
struct PasskeysView {
    items: Vec<PasskeyView>,
    /// False if the address of the server is none that browsers make passkeys for.
    are_possible: bool,
}

/// The passkey that was added.
#[derive(Serialize, ToSchema)]
struct AddedPasskeyView {
    passkey: PasskeyView,
    /// Empty unless it is the first second factor of the person. They are shown only once, and each one works
    /// once.
    recovery_codes: Vec<String>,
}

impl From<PasskeyRecord> for PasskeyView {
    fn from(record: PasskeyRecord) -> Self {
        let PasskeyRecord { id, name, created_at, last_used_at } = record;
        Self { id, name, created_at, last_used_at }
    }
}

/// Begin to use a passkey: to sign in, or to confirm a session.
///
/// The challenge is valid for 5 minutes. Sixty sign-ins with a passkey may begin or be completed in a minute from
/// one address. If the server has no address that browsers make passkeys for, the answer is 409
/// `public_url_required`.
#[utoipa::path(post, path = "/api/auth/passkey/challenge", tag = "accounts", security(()),
    responses((status = 200, body = PasskeyChallengeView), (status = 409, body = Problem),
        (status = 429, body = Problem)))]
async fn ask_for_passkey(
    State(state): State<AppState>,
    parts: Parts,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    let asked = state.services.passkeys.ask(&unknown_client(&parts))?;
    let view = PasskeyChallengeView {
        challenge: asked.challenge.to_string(),
        host: asked.host,
        nonce: BASE64URL_NOPAD.encode(&asked.nonce),
        expires_at: asked.expires_at,
    };
    Ok(not_stored(StatusCode::OK, view))
}

/// Sign in with a passkey, which counts as password and second factor.
#[utoipa::path(post, path = "/api/auth/passkey", tag = "accounts", security(()), request_body = PasskeySignIn,
    responses((status = 200, body = SignedInView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn sign_in_with_passkey(
    State(state): State<AppState>,
    parts: Parts,
    Body(body): Body<PasskeySignIn>,
) -> ApiResult<Response> {
    if body.cookies {
        check_same_origin(&parts, &state)?;
    }
    let (client, assertion) = (unknown_client(&parts), body.passkey.assertion()?);
    let (passkeys, challenge) = (&state.services.passkeys, &body.passkey.challenge);
    let made = passkeys.sign_in(&client, challenge, &assertion, body.tenant_id).await?;
    Ok(signed_in(&state, made, body.cookies))
}

/// List the passkeys of the person, the oldest first.
#[utoipa::path(get, path = "/api/me/passkeys", tag = "accounts", responses((status = 200, body = PasskeysView)))]
async fn list_passkeys(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<PasskeysView>> {
    let passkeys = &state.services.passkeys;
    let items = passkeys.list(&caller).await?.into_iter().map(PasskeyView::from).collect();
    Ok(axum::Json(PasskeysView { items, are_possible: passkeys.are_possible() }))
}

/// Begin to make a passkey. Only for a person who gave the password in the last 15 minutes, with a code if the
/// person has a second factor.
#[utoipa::path(post, path = "/api/me/passkeys/challenge", tag = "accounts", request_body = FactorProof,
    responses((status = 200, body = NewPasskeyView), (status = 409, body = Problem)))]
async fn begin_passkey(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<FactorProof>,
) -> ApiResult<Response> {
    let code = body.code.map(Zeroizing::new);
    let asked = state.services.passkeys.begin(&caller, code).await?;
    let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let view = NewPasskeyView {
        challenge: asked.challenge.to_string(),
        host: asked.options.host,
        nonce: text(&asked.options.nonce),
        user_handle: text(asked.user_id.0.as_bytes()),
        user_name: asked.email,
        user_title: asked.name,
        algorithms: asked.options.algorithms,
        known: asked.known.iter().map(|id| text(id)).collect(),
        expires_at: asked.expires_at,
    };
    Ok(not_stored(StatusCode::OK, view))
}

/// Add a passkey that a device made. If it is the first second factor of the person, the answer has ten recovery
/// codes, and the person's other sessions end.
#[utoipa::path(post, path = "/api/me/passkeys", tag = "accounts", request_body = AddPasskey,
    responses((status = 201, body = AddedPasskeyView), (status = 409, body = Problem)))]
async fn add_passkey(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<AddPasskey>,
) -> ApiResult<Response> {
    let made = MadePasskey {
        credential_id: bytes("credential_id", &body.credential_id)?,
        client_data: bytes("client_data", &body.client_data)?,
        attestation: bytes("attestation_object", &body.attestation_object)?,
    };
    let passkeys = &state.services.passkeys;
    let added = passkeys.add(&caller, &body.challenge, &body.name, &made).await?;
    let recovery_codes = added.recovery_codes.iter().map(|code| code.to_string()).collect();
    let view = AddedPasskeyView { passkey: added.passkey.into(), recovery_codes };
    Ok(not_stored(StatusCode::CREATED, view))
}

/// Remove a passkey of the person, whose other sessions end. Only for a person who gave the password in the last
/// 15 minutes, with a code, or who confirmed the session with a passkey.
#[utoipa::path(delete, path = "/api/me/passkeys/{id}", tag = "accounts", params(("id" = uuid::Uuid, Path)),
    request_body = FactorProof, responses((status = 204), (status = 404, body = Problem)))]
async fn remove_passkey(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<FactorProof>,
) -> ApiResult<StatusCode> {
    let code = body.code.map(Zeroizing::new);
    state.services.passkeys.remove(&caller, PasskeyId(id), code).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An answer that nothing in between stores.
fn not_stored(status: StatusCode, view: impl Serialize) -> Response {
    let mut response = (status, axum::Json(view)).into_response();
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    response
}
