//! The server and the API key or session of a command, and the file that stores them.
//!
//! Knows no HTTP. A stored key is used only with the server that it was stored for.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// A server and an API key for it.
#[derive(Debug, Clone)]
pub struct Context {
    /// The base address, without `/api`.
    pub server: Url,
    /// The API key, or the access token of a person.
    pub api_key: SecretString,
    /// What renews the access token.
    pub renewal: Option<Renewal>,
    /// Plain HTTP to another host is allowed.
    pub insecure: bool,
    /// PEM file of an additional certificate authority.
    pub ca_file: Option<PathBuf>,
}

/// The refresh token of a person who signed in.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub refresh_token: SecretString,
    /// When the access token expires, as the server wrote it.
    pub access_expires_at: String,
}

/// Values from flags and environment variables. Each takes precedence over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--server`, `MUSTER_SERVER_URL`.
    pub server: Option<String>,
    /// `MUSTER_API_KEY`.
    pub api_key: Option<SecretString>,
    /// `--insecure`.
    pub insecure: bool,
    /// `--ca-file`, `MUSTER_CA_FILE`.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    server_url: String,
    api_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_expires_at: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

/// `$XDG_CONFIG_HOME/muster/config.toml`, or the same under `~/.config`.
pub fn default_path() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".config")))?;
    Some(base.join("muster").join("config.toml"))
}

/// The file with the certificate and the key that are shown to a server, beside the configuration. Each server
/// has its own.
pub fn certificate_path(server: &Url) -> Option<PathBuf> {
    let host = server.host_str()?.replace(['[', ']', ':'], "_");
    let port = server.port_or_known_default()?;
    Some(default_path()?.with_file_name(format!("client-{host}-{port}.pem")))
}

/// Stores a secret at `path`, readable by its owner only.
///
/// # Errors
/// [`CliError::File`].
pub fn store_private(path: &Path, text: &[u8]) -> Result<(), CliError> {
    write_private(path, text).map_err(CliError::file("write", path))
}

/// Combines `overrides` with the file at `path`.
///
/// # Errors
/// [`CliError::Usage`] if server or key is missing or the address is not acceptable,
/// [`CliError::File`] if the file can't be read.
pub fn resolve(overrides: Overrides, path: Option<&Path>) -> Result<Context, CliError> {
    let insecure = overrides.insecure;
    let stored = path.map(|path| read(path, insecure)).transpose()?.flatten();
    let requested =
        overrides.server.as_deref().map(|text| check_server(text, insecure)).transpose()?;
    // Another server must not get this server's key.
    let stored = stored.filter(|stored| requested.as_ref().is_none_or(|url| *url == stored.server));

    let server = requested.or_else(|| Some(stored.as_ref()?.server.clone())).ok_or_else(|| {
        CliError::Usage(
            "no server is set; run `muster login --server URL` or set MUSTER_SERVER_URL".into(),
        )
    })?;
    let ca_file = overrides.ca_file.or_else(|| stored.as_ref()?.ca_file.clone());
    let given = overrides.api_key.map(|key| (key, None));
    let (api_key, renewal) =
        given.or_else(|| stored.map(|stored| (stored.api_key, stored.renewal))).ok_or_else(|| {
            CliError::Usage(format!(
                "no API key is stored for {server}; run `muster login --server {server}` or set MUSTER_API_KEY"
            ))
        })?;
    Ok(Context { server, api_key, renewal, insecure, ca_file })
}

/// Parses a base URL.
///
/// # Errors
/// [`CliError::Usage`] if the text is no HTTP URL, holds a password, or would send the key to another
/// host over plain HTTP without `insecure`.
pub fn check_server(text: &str, insecure: bool) -> Result<Url, CliError> {
    let refuse =
        |why: &str| CliError::Usage(format!("{why}; use a URL such as https://muster.example"));
    let mut url = Url::parse(text.trim()).map_err(|_| refuse("the server is not a URL"))?;
    match url.scheme() {
        "https" => {}
        "http" if insecure || is_loopback(&url) => {}
        "http" => {
            return Err(CliError::Usage(
                "http:// would send the key unencrypted; use https://, or --insecure on a trusted \
                 network"
                    .into(),
            ));
        }
        _ => return Err(refuse("the server's URL is neither http nor https")),
    }
    if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("the server's URL must have a host and no user"));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// True if the URL is of this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The context that is stored at `path`, if there is one.
///
/// # Errors
/// [`CliError::File`] if the file can't be read, [`CliError::Usage`] if its address is not acceptable.
pub fn read(path: &Path, insecure: bool) -> Result<Option<Context>, CliError> {
    let Some(stored) = read_file(path)? else { return Ok(None) };
    let server = check_server(&stored.server_url, stored.insecure || insecure)?;
    let renewal = stored.refresh_token.map(|token| Renewal {
        refresh_token: token.into(),
        access_expires_at: stored.access_expires_at.unwrap_or_default(),
    });
    Ok(Some(Context {
        server,
        api_key: stored.api_key.into(),
        renewal,
        insecure: stored.insecure,
        ca_file: stored.ca_file,
    }))
}

/// Locks the stored context at `path` until the file is dropped.
///
/// # Errors
/// The system's, if the lock can't be created beside it.
pub fn lock(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

fn read_file(path: &Path) -> Result<Option<Stored>, CliError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::file("read", path)(error)),
    };
    // The parser's message quotes the line, which may hold the key.
    toml::from_str(&text).map(Some).map_err(|_| CliError::File {
        action: "parse",
        path: path.into(),
        source: io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is not valid; run `muster login` again",
        ),
    })
}

/// Stores a context at `path`, readable by its owner only.
///
/// Repeats: replaces the file atomically.
///
/// # Errors
/// [`CliError::File`].
pub fn store(path: &Path, context: &Context) -> Result<(), CliError> {
    let stored = Stored {
        server_url: context.server.to_string(),
        api_key: context.api_key.expose_secret().to_owned(),
        refresh_token: context
            .renewal
            .as_ref()
            .map(|renewal| renewal.refresh_token.expose_secret().to_owned()),
        access_expires_at: context.renewal.as_ref().map(|known| known.access_expires_at.clone()),
        insecure: context.insecure,
        ca_file: context.ca_file.clone(),
    };
    let text = toml::to_string(&stored).map_err(|error| CliError::Answer(error.to_string()))?;
    write_private(path, text.as_bytes()).map_err(CliError::file("write", path))
}

/// Stores another context. Waits for commands that renew the session that was there, so that none of them
/// stores it again.
///
/// # Errors
/// [`CliError::File`].
pub fn replace(path: &Path, context: &Context) -> Result<(), CliError> {
    // A folder that can't be written to has no lock, and the next line says so.
    let _lock = lock(path).ok();
    store(path, context)
}

/// Removes the stored context. Without one nothing happens.
///
/// # Errors
/// [`CliError::File`].
pub fn forget(path: &Path) -> Result<(), CliError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CliError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut directory = DirBuilder::new();
    directory.recursive(true);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        directory.mode(0o700);
        options.mode(0o600);
    }
    if let Some(parent) = path.parent() {
        directory.create(parent)?;
    }
    // Two commands may renew an access token at once.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let _ = fs::remove_file(&temporary);
    options.open(&temporary)?.write_all(text)?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests;
