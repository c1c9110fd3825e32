//! What a device signed, as a browser sends it.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::access::people::passkey::{MAX_PASSKEY_VALUE_BYTES, PasskeyAssertion};
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::http::problem::Problem;
use crate::services::error::ServiceError;

/// What a device signed, as `navigator.credentials.get` returns it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AssertionBody {
    /// Of `POST /api/auth/passkey/challenge`.
    pub challenge: String,
    /// `rawId`, in base64url.
    credential_id: String,
    /// `response.userHandle`, in base64url.
    user_handle: String,
    /// `response.clientDataJSON`, in base64url.
    client_data: String,
    /// `response.authenticatorData`, in base64url.
    authenticator_data: String,
    /// `response.signature`, in base64url.
    signature: String,
}

impl AssertionBody {
    pub(super) fn assertion(&self) -> Result<PasskeyAssertion, Problem> {
        Ok(PasskeyAssertion {
            credential_id: bytes("credential_id", &self.credential_id)?,
            user_handle: bytes("user_handle", &self.user_handle)?,
            client_data: bytes("client_data", &self.client_data)?,
            authenticator_data: bytes("authenticator_data", &self.authenticator_data)?,
            signature: bytes("signature", &self.signature)?,
        })
    }
}

/// Bytes in base64url, as browsers write them.
pub(super) fn bytes(field: &str, text: &str) -> Result<Vec<u8>, Problem> {
    let limit = MAX_PASSKEY_VALUE_BYTES as u64;
    if text.len() > MAX_PASSKEY_VALUE_BYTES {
        let error = FieldError::with_limit(field, FieldErrorCode::TooLarge, limit);
        let detail = format!("`{field}` must have at most {limit} bytes");
        return Err(ServiceError::InvalidField { detail, error }.into());
    }
    let decoded = BASE64URL_NOPAD.decode(text.as_bytes());
    let problem = "must be base64url without padding";
    decoded.map_err(|_| ServiceError::invalid_field(field, problem).into())
}
