//! Signs a version with a publisher's own key, so that hosts need not trust the server.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use muster_protocol::identity::AgentKeyPair;
use muster_protocol::library::{
    MAX_SIGNATURE_LIFETIME_MS, STATEMENT_FORMAT, ScriptContent, ScriptDocument, ScriptPin,
    ScriptSignature, SignedScript, sha256_hex,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::get;
use crate::commands::releases::release::key_file;
use crate::error::CliError;
use crate::input::quantities::milliseconds;
use crate::output::printer::print_note;
use crate::session::Session;

/// How long a signature is valid unless the command line says otherwise: 180 days.
const DEFAULT_VALID_MS: u64 = 180 * 24 * 3_600_000;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct SignatureOptions {
    /// Sign it with this private key, from `muster publisher keygen`
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Time that the signature is valid, at most 400d [default: 180d]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "key")]
    valid: Option<u64>,
    /// Let hosts run versions from this number on; lower ones never run there again [default: the version]
    #[arg(long, value_name = "N", requires = "key")]
    minimum: Option<u32>,
}

impl SignatureOptions {
    /// The public key, base64, if something is to be signed.
    ///
    /// # Errors
    /// As [`read_key`].
    pub fn publisher(&self) -> Result<Option<String>, CliError> {
        let read = |path: &PathBuf| Ok(read_key(path)?.public_key().to_string());
        self.key.as_ref().map(read).transpose()
    }
}

/// Signs a version as the server shows it, and stores the signature there. `own_sha256`: the hash of the
/// person's own copy of the text.
///
/// # Errors
/// [`CliError`] if the version is not what it seems, or the server refuses.
pub async fn sign_version(
    session: &Session,
    id: &str,
    version: u64,
    options: &SignatureOptions,
    own_sha256: Option<&str>,
) -> Result<Value, CliError> {
    let Some(key) = &options.key else {
        return Err(CliError::Usage("--key FILE is needed to sign".into()));
    };
    let pair = read_key(key)?;
    let valid_ms = options.valid.unwrap_or(DEFAULT_VALID_MS);
    if valid_ms > MAX_SIGNATURE_LIFETIME_MS {
        return Err(CliError::Usage("--valid must be at most 400d".into()));
    }
    let number = version.to_string();
    let path = ["scripts", id, "versions", &number];
    let shown = get(session, &path).await?;
    let document = checked_document(&shown, own_sha256)?;
    if u64::from(document.version) != version {
        return Err(CliError::Answer("the server sent another version".into()));
    }
    print_note(&format!("signing {}@{} (SHA-256 {})", document.name, version, document.sha256));
    let signed = SignedScript {
        format: STATEMENT_FORMAT,
        publisher: pair.public_key(),
        document_sha256: sha256_hex(document.to_text().as_bytes()),
        minimum_version: options.minimum.unwrap_or(document.version).min(document.version),
        name: document.name,
        version: document.version,
        expires_at_ms: unix_ms().saturating_add(valid_ms),
    };
    let signature = json!(ScriptSignature::sign(&signed, &pair));
    let path = ["scripts", id, "versions", &number, "signatures"];
    session.api.json(session.api.request(Method::POST, &path).json(&signature)).await
}

/// The document, if it is what the hosts will see and has the text that the person knows.
fn checked_document(shown: &Value, own_sha256: Option<&str>) -> Result<ScriptDocument, CliError> {
    let wrong = |what: &str| CliError::Answer(format!("the version {what}; nothing was signed"));
    let text = |field: &str| shown.get(field).and_then(Value::as_str).unwrap_or_default();
    let document: ScriptDocument =
        serde_json::from_str(text("document")).map_err(|_| wrong("can't be read"))?;
    let content = ScriptContent {
        document: text("document").to_owned(),
        body: text("body").to_owned(),
        signatures: Vec::new(),
    };
    let pin = ScriptPin {
        version: document.version,
        sha256: document.sha256.clone(),
        document_sha256: sha256_hex(content.document.as_bytes()),
    };
    content.open(&document.name, &pin).map_err(|error| wrong(&format!("is damaged: {error}")))?;
    // What is signed is the document that this program understands, byte for byte.
    if document.to_text() != content.document {
        return Err(wrong("has fields that this program does not know"));
    }
    if own_sha256.is_some_and(|own| own != document.sha256) {
        return Err(wrong("has another text than your own file"));
    }
    Ok(document)
}

/// Reads a key that `muster publisher keygen` created.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if the file holds no such key.
pub fn read_key(path: &Path) -> Result<AgentKeyPair, CliError> {
    let bytes = key_file::read_pem(path)?;
    bytes.and_then(|bytes| AgentKeyPair::read(&bytes).ok()).ok_or_else(|| {
        CliError::Usage(format!(
            "{} holds no publisher's key; create one with `muster publisher keygen`",
            path.display()
        ))
    })
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
