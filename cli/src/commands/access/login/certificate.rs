//! Gets a certificate for the stored key or session. The key of the certificate is made here and stays here.

use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::api::client::ApiClient;
use crate::context::{self, Context};
use crate::error::CliError;
use crate::output::printer::print_note;

/// Makes a key, gets a certificate for it and stores both, for all later requests to this server. The previous
/// certificate is shown, if there is one.
///
/// # Errors
/// [`CliError`]; then nothing is stored.
pub async fn obtain(context: &Context) -> Result<(), CliError> {
    let Some(path) = context::certificate_path(&context.server) else {
        return Err(CliError::Usage(
            "no home directory to store the certificate in; set XDG_CONFIG_HOME".into(),
        ));
    };
    let failed = |error: rcgen::Error| CliError::Answer(format!("failed to make a key: {error}"));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed)?;
    let body = json!({ "request": request.pem().map_err(failed)? });
    let api = ApiClient::new(context)?;
    let answer = api.json(api.request(Method::POST, &["certificates"]).json(&body)).await?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
    let file = SecretString::from(format!("{}{}", key.serialize_pem(), text("certificate")));
    context::store_private(&path, file.expose_secret().as_bytes())?;
    print_note(&format!(
        "the certificate is valid until {}; it is stored with its key in {}",
        text("expires_at"),
        path.display()
    ));
    Ok(())
}
