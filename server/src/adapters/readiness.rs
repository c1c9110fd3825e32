//! Asks a running server whether it is ready, from the same machine, for container health checks.
//!
//! It only needs the data directory, where the server writes its address. It reads neither keys nor
//! the database, so that a user without access to those can run it.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, redirect};
use serde::Deserialize;
use url::{Host, Url};

use crate::domain::name::clean;

/// The server waits three seconds for its database.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Most bytes of a response that are read.
const READ_BYTES: usize = 4 * 1024;
/// Most characters of a response that are repeated.
const DETAIL_CHARACTERS: usize = 300;

/// The server is not ready; one line for people.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("failed to read the server's address from {}; is the server running?", path.display())]
    NoAddress { path: PathBuf, source: io::Error },
    #[error("{} contains no address; restart the server", path.display())]
    MalformedAddress { path: PathBuf },
    #[error("failed to create an HTTP client: {0}")]
    Client(String),
    #[error("failed to reach the server at {url}: {problem}; is it running?")]
    Unreachable { url: Url, problem: String },
    #[error("the server at {url} is not ready ({status}): {detail}")]
    Refused { url: Url, status: u16, detail: String },
    #[error("{url} is not a Muster server")]
    NotMuster { url: Url },
}

/// The fields of a response that are read, good or bad.
#[derive(Debug, Default, Deserialize)]
struct ReadyzBody {
    #[serde(default)]
    status: serde_json::Value,
    #[serde(default)]
    detail: String,
}

/// Requests `/readyz` from the server of a data directory. Takes at most four seconds for each
/// address.
///
/// # Errors
/// [`NotReady`] with a sentence for the operator of a container.
pub async fn ask(data_dir: &Path) -> Result<(), NotReady> {
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(ANSWER_WITHIN)
        // The response is not secret and not trusted, and no certificate is valid for a loopback
        // address.
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(|error| NotReady::Client(innermost(&error)))?;
    let mut outcome = Ok(());
    for url in addresses(data_dir)? {
        outcome = ask_at(&client, url).await;
        if !matches!(outcome, Err(NotReady::Unreachable { .. })) {
            break;
        }
    }
    outcome
}

async fn ask_at(client: &Client, url: Url) -> Result<(), NotReady> {
    let unreachable = |error: reqwest::Error| NotReady::Unreachable {
        url: url.clone(),
        problem: innermost(&error),
    };
    let mut response = client.get(url.clone()).send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&piece);
        if body.len() > READ_BYTES {
            return Err(NotReady::NotMuster { url });
        }
    }
    let body: ReadyzBody = serde_json::from_slice(&body).unwrap_or_default();
    match (status.is_success(), body.status.as_str()) {
        (true, Some("ok")) => Ok(()),
        (true, _) => Err(NotReady::NotMuster { url }),
        (false, _) => {
            let detail = clean(&body.detail, DETAIL_CHARACTERS);
            Err(NotReady::Refused { url, status: status.as_u16(), detail })
        }
    }
}

/// The address on which the server listens. If it listens on all, this machine's loopback address.
fn addresses(data_dir: &Path) -> Result<Vec<Url>, NotReady> {
    let path = data_dir.join("server_url");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(NotReady::NoAddress { path, source }),
    };
    let parsed = text.trim().parse::<Url>().ok().filter(Url::has_host);
    let Some(url) = parsed.and_then(|url| url.join("/readyz").ok()) else {
        return Err(NotReady::MalformedAddress { path });
    };
    let near: &[IpAddr] = match url.host() {
        Some(Host::Ipv4(ip)) if ip.is_unspecified() => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        // An IPv6 loopback address may be missing although the server listens on all of IPv6.
        Some(Host::Ipv6(ip)) if ip.is_unspecified() => {
            &[IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)]
        }
        _ => return Ok(vec![url]),
    };
    let at = |ip: &IpAddr| {
        let mut url = url.clone();
        url.set_ip_host(*ip).ok().map(|()| url)
    };
    Ok(near.iter().filter_map(at).collect())
}

/// The innermost cause, which is the most specific.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("server_url"), text).expect("written");
        let found = addresses(folder.path()).map_err(|error| error.to_string())?;
        Ok(found.iter().map(Url::to_string).collect())
    }

    #[test]
    fn a_server_that_listens_on_all_addresses_is_asked_on_loopback() {
        assert_eq!(shown("http://10.1.2.3:8080\n").expect("one"), ["http://10.1.2.3:8080/readyz"]);
        assert_eq!(
            shown("https://0.0.0.0:8443\n").expect("one"),
            ["https://127.0.0.1:8443/readyz"]
        );
        let both = ["http://[::1]:8080/readyz", "http://127.0.0.1:8080/readyz"];
        assert_eq!(shown("http://[::]:8080\n").expect("two"), both);
        for odd in ["", "nonsense", "data:text"] {
            assert!(shown(odd).expect_err("odd").contains("contains no address"), "{odd}");
        }
    }
}
