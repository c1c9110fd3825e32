//! The certificate of the server: from files, or issued by its own authority.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::adapters::host_names::host_name;
use crate::config::{Config, TlsConfig};
use crate::domain::certificates::names::CertificateName;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::listener::Certificate;
use crate::services::certificates::authority::ServerAuthority;
use crate::store::Store;

/// Names by which programs on this machine reach the server. Its certificate is always valid for them.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Reads the operator's certificate, if there is one, only to see whether it can be used.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    from_files(config, None, &Clock::system()).map(drop)
}

/// The operator's certificate, if there is one.
pub(super) fn from_files(
    config: &Config,
    authority: Option<ServerAuthority>,
    clock: &Clock,
) -> anyhow::Result<Option<Certificate>> {
    Ok(match &config.tls {
        TlsConfig::Files(files) => Some(Certificate::load(files.clone(), authority, clock)?),
        TlsConfig::Off | TlsConfig::Auto(_) => None,
    })
}

/// Writes what clients should trust into the data directory, for people who copy it.
fn write_authority(path: &Path, authority: &ServerAuthority) -> std::io::Result<()> {
    let new = path.with_extension("pem.new");
    std::fs::write(&new, authority.certificate_pem())?;
    std::fs::rename(new, path)
}

/// Writes it again whenever the authority is replaced.
fn follow_authority(path: PathBuf, authority: ServerAuthority) {
    let mut changes = authority.changes();
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            if let Err(error) = write_authority(&path, &authority) {
                tracing::warn!(%error, "failed to write the new authority to the data directory");
            }
        }
    });
}

/// The server's own authority, if it issues its certificate itself. It is made at the first start.
pub(super) async fn authority(
    config: &Config,
    (store, secret_box): (&Store, &SecretBox),
    clock: &Clock,
) -> anyhow::Result<Option<ServerAuthority>> {
    let TlsConfig::Auto(names) = &config.tls else { return Ok(None) };
    let is_named = !names.is_empty();
    let names = all_names(config, names);
    let authority = ServerAuthority::load(store, secret_box, clock, names)
        .await
        .context("failed to load the certificate authority")?;
    let path = config.data_dir.join("ca.pem");
    write_authority(&path, &authority).context("failed to write to the data directory")?;
    follow_authority(path, authority.clone());
    let names: Vec<_> = authority.names().iter().map(ToString::to_string).collect();
    let (names, pin) = (names.join(" "), authority.pin());
    if is_named {
        tracing::info!(names, %pin, "the server issues its certificate itself");
    } else {
        tracing::warn!(
            names, %pin,
            "the server issues its certificate itself, for the names of this machine; set `tls_names` if hosts use \
             others"
        );
    }
    let origin = config.public_url.as_ref().filter(|origin| !authority.covers(origin.host()));
    if let Some(origin) = origin {
        tracing::warn!(
            public_url = %origin,
            "the certificate is not valid for the public URL; add its host to `tls_names`, unless a proxy ends TLS there"
        );
    }
    Ok(Some(authority))
}

/// The authority of the certificates of clients: the server's own, which also a server with a certificate from
/// files has. `None` if the server does not end TLS.
pub(super) async fn client_authority(
    config: &Config,
    (store, secret_box): (&Store, &SecretBox),
    clock: &Clock,
    own: &Option<ServerAuthority>,
) -> anyhow::Result<Option<ServerAuthority>> {
    match (&config.tls, own) {
        (_, Some(own)) => Ok(Some(own.clone())),
        (TlsConfig::Files(_), None) => {
            let loaded = ServerAuthority::load(store, secret_box, clock, Vec::new()).await;
            loaded.map(Some).context("failed to load the certificate authority")
        }
        (TlsConfig::Off | TlsConfig::Auto(_), None) => Ok(None),
    }
}

/// The names that were set, or those of the machine; then those that programs on it use.
fn all_names(config: &Config, set: &[CertificateName]) -> Vec<CertificateName> {
    let mut names = set.to_vec();
    let mut add = |text: &str| match CertificateName::parse(text) {
        Ok(name) if !names.contains(&name) => names.push(name),
        // Names of machines may have characters that no certificate has.
        _ => {}
    };
    if set.is_empty() {
        if let Some(origin) = &config.public_url {
            add(origin.host());
        }
        add(&host_name().unwrap_or_default());
        let listen = config.listen.rsplit_once(':').map_or("", |(host, _)| host);
        // All addresses of the machine have no name of their own.
        if !matches!(listen, "0.0.0.0" | "[::]") {
            add(listen);
        }
    }
    OWN_NAMES.iter().for_each(|name| add(name));
    names
}
