//! Asking a server that runs whether it can do its work, from beside it, as its container's health
//! check does.
//!
//! Knows no settings but the data directory, in which the server notes where it listens, and reads
//! neither keys nor the database: whoever may not see those may still ask.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, redirect};
use serde::Deserialize;
use url::{Host, Url};

use crate::domain::name::clean;

/// The server itself gives its database three seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Bytes of an answer that are read.
const READ_BYTES: usize = 4 * 1024;
/// What is repeated of them.
const DETAIL_CHARACTERS: usize = 300;

/// Why a server is not ready, in one line.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("find the server: {} can't be read ({source}); has it been started?", path.display())]
    NoAddress { path: PathBuf, source: io::Error },
    #[error("find the server: {} holds no address; start the server again", path.display())]
    OddAddress { path: PathBuf },
    #[error("prepare the question: {0}")]
    Client(String),
    #[error("reach the server at {url}: {problem}; does it run?")]
    Unreachable { url: Url, problem: String },
    #[error("get a good answer from {url}: {status}: {detail}")]
    Refused { url: Url, status: u16, detail: String },
    #[error("recognise what answers at {url}: it is no Muster server")]
    Stranger { url: Url },
}

/// What is read of an answer, good or bad.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    status: serde_json::Value,
    #[serde(default)]
    detail: String,
}

/// Asks the server of a data directory for `/readyz`. Takes four seconds an address at most.
///
/// # Errors
/// [`NotReady`] with a sentence for whoever looks at a container.
pub async fn ask(data_dir: &Path) -> Result<(), NotReady> {
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(ANSWER_WITHIN)
        // Nothing secret is said or believed, and no certificate is for a loopback address.
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
    let mut answer = client.get(url.clone()).send().await.map_err(unreachable)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&piece);
        if body.len() > READ_BYTES {
            return Err(NotReady::Stranger { url });
        }
    }
    let said: Answer = serde_json::from_slice(&body).unwrap_or_default();
    match (status.is_success(), said.status.as_str()) {
        (true, Some("ok")) => Ok(()),
        (true, _) => Err(NotReady::Stranger { url }),
        (false, _) => {
            let detail = clean(&said.detail, DETAIL_CHARACTERS);
            Err(NotReady::Refused { url, status: status.as_u16(), detail })
        }
    }
}

/// Where the server says it listens; where that is everywhere, this machine itself.
fn addresses(data_dir: &Path) -> Result<Vec<Url>, NotReady> {
    let path = data_dir.join("server_url");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(NotReady::NoAddress { path, source }),
    };
    let parsed = text.trim().parse::<Url>().ok().filter(Url::has_host);
    let Some(url) = parsed.and_then(|url| url.join("/readyz").ok()) else {
        return Err(NotReady::OddAddress { path });
    };
    let near: &[IpAddr] = match url.host() {
        Some(Host::Ipv4(ip)) if ip.is_unspecified() => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        // It may have no loopback address of the newer kind and still listen to it.
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

/// The cause that says most: the layers above it only say that there was one.
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
    fn a_server_that_listens_everywhere_is_asked_on_this_machine() {
        assert_eq!(shown("http://10.1.2.3:8080\n").expect("one"), ["http://10.1.2.3:8080/readyz"]);
        assert_eq!(
            shown("https://0.0.0.0:8443\n").expect("one"),
            ["https://127.0.0.1:8443/readyz"]
        );
        let both = ["http://[::1]:8080/readyz", "http://127.0.0.1:8080/readyz"];
        assert_eq!(shown("http://[::]:8080\n").expect("two"), both);
        for odd in ["", "nonsense", "data:text"] {
            assert!(shown(odd).expect_err("odd").contains("holds no address"), "{odd}");
        }
    }
}
