//! Signs a version with a publisher's own key, so that hosts need not trust the server.
//!
//! What is signed is made from the publisher's own folder alone. The server must show the same, byte for
//! byte; it chooses neither text nor interpreter, parameters, name or number.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::value_parser;
use muster_protocol::identity::{AgentKeyPair, AgentPublicKey};
use muster_protocol::library::{
    MAX_SIGNATURE_LIFETIME_MS, STATEMENT_FORMAT, ScriptSignature, SignedScript, sha256_hex,
};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::local_script::LocalScript;
use super::{get, number_of};
use crate::commands::releases::release::key_file;
use crate::error::CliError;
use crate::input::quantities::milliseconds;
use crate::output::printer::print_note;
use crate::output::text::sanitize;
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
    /// Let hosts run this version (of a script: its number) and those signed since; older ones never run there again [default: the version]
    #[arg(long, value_name = "VERSION", requires = "key")]
    pub minimum: Option<String>,
    /// Sign a version of a script at most this many numbers after one that this key has signed [default: 1]
    #[arg(long, value_name = "N", requires = "key", value_parser = value_parser!(u32).range(1..=1000))]
    max_leap: Option<u32>,
    /// Sign a package that this key has signed before as the newest, to go back to it [default: it keeps its order]
    #[arg(long, requires = "key")]
    pub newest: bool,
}

impl SignatureOptions {
    /// The public key, if something is to be signed.
    ///
    /// # Errors
    /// As [`read_key`].
    pub fn publisher(&self) -> Result<Option<AgentPublicKey>, CliError> {
        let read = |path: &PathBuf| Ok(read_key(path)?.public_key());
        self.key.as_ref().map(read).transpose()
    }

    /// The private key.
    ///
    /// # Errors
    /// As [`read_key`], or without one.
    pub fn pair(&self) -> Result<AgentKeyPair, CliError> {
        let missing = || CliError::Usage("--key FILE is needed to sign".into());
        read_key(self.key.as_ref().ok_or_else(missing)?)
    }

    /// How long the signature is valid.
    ///
    /// # Errors
    /// [`CliError::Usage`] if it is too long.
    pub fn valid_ms(&self) -> Result<u64, CliError> {
        let valid_ms = self.valid.unwrap_or(DEFAULT_VALID_MS);
        match valid_ms > MAX_SIGNATURE_LIFETIME_MS {
            true => Err(CliError::Usage("--valid must be at most 400d".into())),
            false => Ok(valid_ms),
        }
    }

    /// Refuses what only scripts have.
    ///
    /// # Errors
    /// [`CliError::Usage`]
    pub fn refuse_numbers(&self) -> Result<(), CliError> {
        match self.max_leap {
            Some(_) => Err(CliError::Usage("--max-leap is for scripts only".into())),
            None => Ok(()),
        }
    }

    /// The oldest number of a script that hosts still run.
    fn minimum_number(&self) -> Result<Option<u32>, CliError> {
        if self.newest {
            return Err(CliError::Usage("--newest is for packages only".into()));
        }
        let number = |text: &String| {
            let problem = || CliError::Usage("--minimum must be the number of a version".into());
            text.parse().map_err(|_| problem())
        };
        self.minimum.as_ref().map(number).transpose()
    }
}

/// Signs the version of the script in a folder: the one with this number, or the latest.
///
/// # Errors
/// [`CliError`] names the file or what differs, or says that the number leaps.
pub async fn sign_folder(
    session: &Session,
    folder: &Path,
    version: Option<u32>,
    options: &SignatureOptions,
) -> Result<Value, CliError> {
    let script = LocalScript::read_one(folder)?;
    let page = session.api.list(&["scripts"], &[("name", &script.name)], None).await?;
    let found = page.get("items").and_then(Value::as_array).and_then(|items| items.first());
    let Some(found) = found else {
        let name = sanitize(&script.name);
        return Err(CliError::Usage(format!("the server has no script `{name}`; push it first")));
    };
    let id = found.get("id").and_then(Value::as_str).unwrap_or_default();
    let version = match version {
        // The person chose the number, not the server.
        Some(version) => version.into(),
        None => {
            let latest = number_of(found, "latest_version")?;
            check_leap(session, id, &script.name, latest, options).await?;
            latest
        }
    };
    sign_version(session, id, &script, version, options).await
}

/// Signs a version of a script, if the server shows it exactly as the person's own folder has it, and
/// stores the signature there.
///
/// # Errors
/// [`CliError`] names what differs, or the server refuses.
pub async fn sign_version(
    session: &Session,
    id: &str,
    script: &LocalScript,
    version: u64,
    options: &SignatureOptions,
) -> Result<Value, CliError> {
    let pair = options.pair()?;
    let (valid_ms, minimum) = (options.valid_ms()?, options.minimum_number()?);
    let document = script.document(u32::try_from(version).unwrap_or(u32::MAX))?;
    let own = document.to_text();
    let number = version.to_string();
    let shown = get(session, &["scripts", id, "versions", &number]).await?;
    let shown = shown.get("document").and_then(Value::as_str).unwrap_or_default();
    if shown != own {
        return Err(CliError::Answer(format!(
            "the server shows {} for `{}` version {version} than your own folder has; nothing was signed",
            difference(shown, &own),
            document.name,
        )));
    }
    let document_sha256 = sha256_hex(own.as_bytes());
    print_note(&format!("signing {}@{version} (document {document_sha256})", document.name));
    let signed = SignedScript {
        format: STATEMENT_FORMAT,
        publisher: pair.public_key(),
        document_sha256,
        minimum_version: minimum.unwrap_or(document.version).min(document.version),
        name: document.name,
        version: document.version,
        expires_at_ms: unix_ms().saturating_add(valid_ms),
    };
    let signature = json!(ScriptSignature::sign(&signed, &pair));
    let path = ["scripts", id, "versions", &number, "signatures"];
    session.api.json(session.api.request(Method::POST, &path).json(&signature)).await
}

/// Refuses a number that leaps. The server counts the versions, and a host that has run the highest number
/// runs no lower one: a server that leaps there would leave the publisher none.
///
/// # Errors
/// [`CliError::Usage`] if neither this version nor one shortly before it has a signature by this key.
pub async fn check_leap(
    session: &Session,
    id: &str,
    name: &str,
    version: u64,
    options: &SignatureOptions,
) -> Result<(), CliError> {
    let publisher = options.pair()?.public_key();
    let leap = u64::from(options.max_leap.unwrap_or(1));
    if version <= leap {
        return Ok(());
    }
    for number in (version - leap..=version).rev() {
        match get(session, &["scripts", id, "versions", &number.to_string()]).await {
            Ok(shown) if is_signed_by(&shown, &publisher, name, number) => return Ok(()),
            Ok(_) => {}
            // It is not saved yet.
            Err(CliError::Refused(problem)) if problem.status == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Err(CliError::Usage(format!(
        "version {version} of `{0}` is not the next after one that this key has signed; nothing was signed. \
         Look at `muster scripts history {0}`, then repeat with --max-leap N, the number of versions between",
        sanitize(name)
    )))
}

/// True if this key has signed a version with this name and number. The signature itself is checked: the
/// server can't make one.
pub fn is_signed_by(version: &Value, publisher: &AgentPublicKey, name: &str, number: u64) -> bool {
    signatures_of(version).any(|signature| {
        signature
            .open::<SignedScript>(&[*publisher])
            .is_ok_and(|signed| signed.name == name && u64::from(signed.version) == number)
    })
}

/// The signatures that the server shows. None of them is checked.
pub fn signatures_of(version: &Value) -> impl Iterator<Item = ScriptSignature> + '_ {
    let signatures = version.get("signatures").and_then(Value::as_array);
    signatures.into_iter().flatten().map(|signature| {
        let text = |field: &str| {
            signature.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        ScriptSignature { statement: text("statement"), signature: text("signature") }
    })
}

/// What differs between the document of the server and the own one, as the object of a sentence.
pub fn difference(shown: &str, own: &str) -> String {
    let fields = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let (shown, own) = (fields(shown), fields(own));
    if shown.is_empty() {
        return "another document".to_owned();
    }
    let names: BTreeSet<_> = shown.keys().chain(own.keys()).collect();
    let names: Vec<_> =
        names.into_iter().filter(|name| shown.get(*name) != own.get(*name)).collect();
    match names.is_empty() {
        true => "another form of the document".to_owned(),
        false => {
            let names: Vec<_> = names.iter().map(|name| sanitize(name)).collect();
            format!("another {}", names.join(", "))
        }
    }
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

/// The own clock, in milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
