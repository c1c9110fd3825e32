//! Signs a package with a publisher's own key, so that hosts need not trust the server.
//!
//! What is signed is made from the publisher's own archive alone. The server must show the same, byte for
//! byte; it chooses neither files nor `muster.toml`.

use std::io::Cursor;
use std::path::Path;

use muster_protocol::identity::AgentPublicKey;
use muster_protocol::library::{STATEMENT_FORMAT, ScriptSignature, sha256_hex};
use muster_protocol::package::description::inspect;
use muster_protocol::package::{DESCRIPTION_FILE, SignedPackage};
use reqwest::Method;
use serde_json::{Value, json};

use super::archive;
use crate::commands::library::scripts::signing::{
    SignatureOptions, difference, signatures_of, unix_ms,
};
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::text::sanitize;
use crate::session::Session;

/// True if this is an archive or the folder of a package, and not the folder of a script.
pub fn is_package(source: &Path) -> bool {
    source.is_file() || source.join(DESCRIPTION_FILE).is_file()
}

/// Signs the version of a package that is in a folder or an archive.
///
/// # Errors
/// [`CliError`] names the file or what differs.
pub async fn sign(
    session: &Session,
    source: &Path,
    options: &SignatureOptions,
) -> Result<Value, CliError> {
    sign_bytes(session, &archive::read(source)?, options).await
}

/// Signs the version of a package with this archive.
///
/// # Errors
/// [`CliError`] names what differs, or the server refuses.
pub async fn sign_bytes(
    session: &Session,
    archive: &[u8],
    options: &SignatureOptions,
) -> Result<Value, CliError> {
    let pair = options.pair()?;
    let publisher = pair.public_key();
    let valid_ms = options.valid_ms()?;
    options.refuse_numbers()?;
    let inspected = inspect(Cursor::new(archive), archive.len() as u64, sha256_hex(archive))
        .map_err(|error| CliError::Usage(format!("the archive is no package: {error}")))?;
    let document = inspected.document;
    let (own, name, version) = (document.to_text(), &document.name, &document.version);
    let shown = find(session, name, version).await?;
    let text = shown.get("document").and_then(Value::as_str).unwrap_or_default();
    if text != own {
        return Err(CliError::Answer(format!(
            "the server shows {} for `{name}@{version}` than your own archive has; nothing was signed",
            difference(text, &own),
        )));
    }
    let document_sha256 = sha256_hex(own.as_bytes());
    let now_ms = unix_ms();
    let known = statement_of(&shown, &publisher, name, version);
    let known = known.filter(|known| known.document_sha256 == document_sha256);
    let rank = match known.filter(|_| !options.newest) {
        Some(known) => {
            print_note(&format!("renewing the signature of {name}@{version}, in its order"));
            known.rank
        }
        None => {
            print_note(&format!(
                "signing {name}@{version} as the newest (document {document_sha256})"
            ));
            now_ms
        }
    };
    let minimum_rank = match &options.minimum {
        Some(oldest) => {
            let shown = find(session, name, oldest).await?;
            let oldest = statement_of(&shown, &publisher, name, oldest).ok_or_else(|| {
                CliError::Usage(format!(
                    "this key has not signed `{name}@{}`, so it can't be the oldest that runs; nothing was signed",
                    sanitize(oldest)
                ))
            })?;
            oldest.rank.min(rank)
        }
        None => rank,
    };
    let signed = SignedPackage {
        format: STATEMENT_FORMAT,
        publisher,
        name: name.clone(),
        version: version.clone(),
        document_sha256,
        rank,
        minimum_rank,
        expires_at_ms: now_ms.saturating_add(valid_ms),
    };
    let signature = json!(ScriptSignature::sign(&signed, &pair));
    let id = shown.get("id").and_then(Value::as_str).unwrap_or_default();
    let path = ["packages", id, "signatures"];
    session.api.json(session.api.request(Method::POST, &path).json(&signature)).await
}

/// The version of a package, as the server shows it.
async fn find(session: &Session, name: &str, version: &str) -> Result<Value, CliError> {
    let id = super::id_of(session, &format!("{name}@{version}"), true).await?;
    session.api.json(session.api.request(Method::GET, &["packages", &id])).await
}

/// What this key has signed about a version. The signature itself is checked: the server can't make one.
fn statement_of(
    shown: &Value,
    publisher: &AgentPublicKey,
    name: &str,
    version: &str,
) -> Option<SignedPackage> {
    signatures_of(shown)
        .filter_map(|signature| signature.open::<SignedPackage>(&[*publisher]).ok())
        .find(|signed| signed.name == name && signed.version == version)
}
