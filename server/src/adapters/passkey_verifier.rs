//! What devices sign with passkeys, by the rules of WebAuthn.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use url::{Host, Url};
use webauthn_rs::prelude::{
    DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Uuid, Webauthn, WebauthnBuilder, WebauthnError,
};

use crate::domain::access::people::passkey::{
    MadePasskey, NewPasskeyOptions, PasskeyAssertion, PasskeyUseOptions,
};

/// What the browser shows as the name of the server.
pub const SERVER_TITLE: &str = "Muster";

/// What a device sent is not what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PasskeyError {
    #[error("{0}")]
    Protocol(#[from] WebauthnError),
    #[error("a value has another form: {0}")]
    Form(#[from] serde_json::Error),
}

/// A passkey that was made or used, as it is stored.
#[derive(Debug, Clone)]
pub struct StoredPasskey {
    pub credential_id: Vec<u8>,
    /// Public key, counter and properties, as JSON.
    pub credential: String,
    /// How often the device signed; 0 for one that does not count.
    pub sign_count: u32,
}

/// Verifies passkeys for one host.
#[derive(Debug, Clone)]
pub struct PasskeyVerifier {
    webauthn: Arc<Webauthn>,
    host: String,
}

impl PasskeyVerifier {
    /// `None` for an address that browsers make no passkeys for: one without a name, or without TLS.
    pub fn new(address: &str) -> Option<Self> {
        let url = Url::parse(address).ok()?;
        let Some(Host::Domain(host)) = url.host() else { return None };
        let host = host.to_owned();
        let is_local = host == "localhost" || host.ends_with(".localhost");
        if url.scheme() != "https" && !is_local {
            return None;
        }
        let builder = WebauthnBuilder::new(&host, &url).ok()?;
        let webauthn = Arc::new(builder.rp_name(SERVER_TITLE).build().ok()?);
        Some(Self { webauthn, host })
    }

    /// Begins to make a passkey. Returns what the browser needs, and the state to keep until [`Self::made`].
    ///
    /// # Errors
    /// [`PasskeyError`].
    pub fn begin(
        &self,
        user: Uuid,
        email: &str,
        name: &str,
    ) -> Result<(NewPasskeyOptions, String), PasskeyError> {
        let (asked, state) = self.webauthn.start_passkey_registration(user, email, name, None)?;
        let options = NewPasskeyOptions {
            host: self.host.clone(),
            nonce: asked.public_key.challenge.clone(),
            algorithms: asked.public_key.pub_key_cred_params.iter().map(|one| one.alg).collect(),
        };
        Ok((options, serde_json::to_string(&state)?))
    }

    /// Checks a passkey that a device made.
    ///
    /// # Errors
    /// [`PasskeyError`].
    pub fn made(&self, state: &str, made: &MadePasskey) -> Result<StoredPasskey, PasskeyError> {
        let state: PasskeyRegistration = serde_json::from_str(state)?;
        let answer: RegisterPublicKeyCredential = serde_json::from_value(json!({
            "id": text(&made.credential_id),
            "rawId": text(&made.credential_id),
            "type": "public-key",
            "response": {
                "clientDataJSON": text(&made.client_data),
                "attestationObject": text(&made.attestation),
            },
        }))?;
        let passkey = self.webauthn.finish_passkey_registration(&answer, &state)?;
        stored(&passkey, 0)
    }

    /// Begins to use any passkey. Returns what the browser needs, and the state to keep until [`Self::used`].
    ///
    /// # Errors
    /// [`PasskeyError`].
    pub fn ask(&self) -> Result<(PasskeyUseOptions, String), PasskeyError> {
        let (asked, state) = self.webauthn.start_discoverable_authentication()?;
        let nonce = asked.public_key.challenge.clone();
        let options = PasskeyUseOptions { host: self.host.clone(), nonce };
        Ok((options, serde_json::to_string(&state)?))
    }

    /// Checks what a device signed with a stored passkey. Returns the passkey as it is stored from now on.
    ///
    /// # Errors
    /// [`PasskeyError`], also for a counter that went back: the passkey was copied.
    pub fn used(
        &self,
        state: &str,
        assertion: &PasskeyAssertion,
        credential: &str,
    ) -> Result<StoredPasskey, PasskeyError> {
        let state: DiscoverableAuthentication = serde_json::from_str(state)?;
        let mut passkey: Passkey = serde_json::from_str(credential)?;
        let answer: PublicKeyCredential = serde_json::from_value(json!({
            "id": text(&assertion.credential_id),
            "rawId": text(&assertion.credential_id),
            "type": "public-key",
            "response": {
                "clientDataJSON": text(&assertion.client_data),
                "authenticatorData": text(&assertion.authenticator_data),
                "signature": text(&assertion.signature),
                "userHandle": text(&assertion.user_handle),
            },
        }))?;
        let result =
            self.webauthn.finish_discoverable_authentication_v2(&answer, state, &passkey)?;
        passkey.update_credential(&result);
        stored(&passkey, result.counter())
    }
}

fn stored(passkey: &Passkey, sign_count: u32) -> Result<StoredPasskey, PasskeyError> {
    Ok(StoredPasskey {
        credential_id: passkey.cred_id().to_vec(),
        credential: serde_json::to_string(passkey)?,
        sign_count,
    })
}

fn text(bytes: &[u8]) -> Value {
    BASE64URL_NOPAD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_for_names_that_a_browser_trusts() {
        for address in [
            "https://muster.example",
            "https://muster.example:8443",
            "https://muster.example/fleet",
            "http://localhost:8080",
        ] {
            assert!(PasskeyVerifier::new(address).is_some(), "{address}");
        }
        for address in
            ["http://muster.example", "https://10.0.0.5", "http://127.0.0.1:8080", "https://[::1]"]
        {
            assert!(PasskeyVerifier::new(address).is_none(), "{address}");
        }
    }
}
