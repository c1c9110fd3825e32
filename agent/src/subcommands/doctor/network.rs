//! Checks the connection up to the server's port: name, TCP in each address family, proxy.
//!
//! With a proxy, name and TCP are those of the proxy.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::detail_and_hint;
use super::finding::{Check, Finding};
use crate::link::{ConnectError, Connector, LinkError, Proxy, Socket, resolve};

/// Time limit for the name lookup.
const NAME_TIMEOUT: Duration = Duration::from_secs(8);
/// Time limit for all addresses of one family; both families are tried at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Time limit for the proxy, connection included.
const PROXY_TIMEOUT: Duration = Duration::from_secs(12);

/// Looks up the name and returns its addresses.
pub async fn dns(connector: &Connector) -> (Finding, Vec<SocketAddr>) {
    let check = Check::Dns;
    let (host, port) = connector.first_address();
    let target_name = target_name(connector);
    let hint = match &connector.proxy {
        Some(_) => {
            "check the proxy's name in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY and this host's DNS"
        }
        None => "check the server's address and this host's DNS; behind a proxy, set HTTPS_PROXY",
    };
    let looked = timeout(NAME_TIMEOUT, resolve(host, port)).await;
    let addresses = match looked {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            let detail = format!("failed to resolve the name {host} of {target_name}: {error}");
            return (Finding::fail(check, detail, hint), Vec::new());
        }
        Err(_) => {
            let seconds = NAME_TIMEOUT.as_secs();
            let detail = format!(
                "the lookup of the name {host} of {target_name} took longer than {seconds} s"
            );
            return (Finding::fail(check, detail, hint), Vec::new());
        }
    };
    if host.parse::<IpAddr>().is_ok() {
        let detail = format!("{host} ({target_name}) is an address; there is no name to look up");
        return (Finding::ok(check, detail), addresses);
    }
    let [four, six] = families(&addresses);
    let shown = |addresses: &[SocketAddr], none: &str| match addresses {
        [] => none.to_owned(),
        some => some.iter().map(|one| one.ip().to_string()).collect::<Vec<_>>().join(", "),
    };
    let detail =
        format!("{host} ({target_name}): A {}; AAAA {}", shown(&four, "none"), shown(&six, "none"));
    (Finding::ok(check, detail), addresses)
}

/// Connects in each address family. One that works is enough.
pub async fn tcp(connector: &Connector, addresses: &[SocketAddr]) -> Finding {
    let check = Check::Tcp;
    let [four, six] = families(addresses);
    let (four, six) = tokio::join!(connects(&four), connects(&six));
    let (_, port) = connector.first_address();
    let said = |family: &str, tried: &ConnectAttempt| match tried {
        ConnectAttempt::Nothing => format!("no {family} address"),
        ConnectAttempt::Connected => format!("{family} connects"),
        ConnectAttempt::Failed(why) => format!("{family} fails ({why})"),
    };
    let target_name = target_name(connector);
    let detail =
        format!("port {port} of {target_name}: {}, {}", said("IPv4", &four), said("IPv6", &six));
    let failing = match (&four, &six) {
        (ConnectAttempt::Connected, ConnectAttempt::Failed(_)) => "IPv6",
        (ConnectAttempt::Failed(_), ConnectAttempt::Connected) => "IPv4",
        (ConnectAttempt::Connected, _) | (_, ConnectAttempt::Connected) => {
            return Finding::ok(check, detail);
        }
        _ => {
            let hint = match &connector.proxy {
                Some(_) => "check the proxy's address and port, or exempt the server in NO_PROXY",
                None => {
                    "check the address and port, that the server is running, and that firewalls permit the connection"
                }
            };
            return Finding::fail(check, detail, hint);
        }
    };
    let hint =
        format!("the other family is used; repair {failing} or remove its addresses from DNS");
    Finding::warn(check, detail, hint)
}

/// Connects to the server's port and returns the connection. A proxy that forbids tunnels still
/// allows unencrypted polling, if `may_poll`.
pub async fn proxy(connector: &Connector, may_poll: bool) -> (Finding, Option<Box<dyn Socket>>) {
    let check = Check::Proxy;
    let reached = timeout(PROXY_TIMEOUT, connector.connect_tcp());
    let reached = reached.await.unwrap_or(Err(LinkError::TimedOut("accept a connection")));
    let target = connector.endpoint.authority();
    match (reached, &connector.proxy) {
        (Ok(socket), None) => {
            (Finding::ok(check, format!("no proxy is used for {target}")), Some(socket))
        }
        (Ok(socket), Some(proxy)) => {
            let finding = if connector.endpoint.is_local() {
                local(proxy, &target)
            } else {
                Finding::ok(check, format!("{proxy} connects to {target}"))
            };
            (finding, Some(socket))
        }
        (Err(error), _) => {
            let (detail, hint) = detail_and_hint(&error);
            let is_forbidden =
                matches!(error, LinkError::Blocked(ConnectError::ProxyForbids { .. }));
            if is_forbidden && may_poll && !connector.endpoint.is_secure {
                return (Finding::warn(check, detail, hint), None);
            }
            (Finding::fail(check, detail, hint), None)
        }
    }
}

/// It works, but it is rarely intended.
fn local(proxy: &Proxy, target: &str) -> Finding {
    Finding::warn(
        Check::Proxy,
        format!("{proxy} connects to {target}, which is the proxy's own host"),
        "if the server is on this host, set NO_PROXY=localhost,127.0.0.1,::1",
    )
}

enum ConnectAttempt {
    Nothing,
    Connected,
    Failed(String),
}

async fn connects(addresses: &[SocketAddr]) -> ConnectAttempt {
    if addresses.is_empty() {
        return ConnectAttempt::Nothing;
    }
    let each = async {
        let mut why = String::new();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(_) => return ConnectAttempt::Connected,
                Err(error) => why = error.to_string(),
            }
        }
        ConnectAttempt::Failed(why)
    };
    let silent = || ConnectAttempt::Failed(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs()));
    timeout(CONNECT_TIMEOUT, each).await.unwrap_or_else(|_| silent())
}

fn families(addresses: &[SocketAddr]) -> [Vec<SocketAddr>; 2] {
    let (four, six) = addresses.iter().partition(|address| address.is_ipv4());
    [four, six]
}

fn target_name(connector: &Connector) -> &'static str {
    if connector.proxy.is_some() { "the proxy" } else { "the server" }
}
