//! As far as the server's port: the name, a connection in each family, the proxy.
//!
//! Names and connections are those of the first hop: the proxy, where there is one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::detail_and_hint;
use super::finding::{Check, Finding};
use crate::link::{ConnectError, Connector, LinkError, Proxy, Socket, resolve};

/// For the name.
const NAME_TIMEOUT: Duration = Duration::from_secs(8);
/// For the addresses of one family together; both families are tried at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// For the proxy to answer, connection included.
const PROXY_TIMEOUT: Duration = Duration::from_secs(12);

/// Looks the name up; gives the addresses.
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
            let detail = format!("the name {host} of {target_name} has no address: {error}");
            return (Finding::fail(check, detail, hint), Vec::new());
        }
        Err(_) => {
            let seconds = NAME_TIMEOUT.as_secs();
            let detail = format!("no answer about the name {host} of {target_name} in {seconds} s");
            return (Finding::fail(check, detail, hint), Vec::new());
        }
    };
    if host.parse::<IpAddr>().is_ok() {
        let detail = format!("{host} ({target_name}) is an address: there is no name to look up");
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

/// Connects in each family. One that works is enough.
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
                    "check address and port, that the server runs, and that firewalls let this host out to it"
                }
            };
            return Finding::fail(check, detail, hint);
        }
    };
    let hint = format!("the other family is used; mend {failing} or take its addresses from DNS");
    Finding::warn(check, detail, hint)
}

/// Goes as far as the server's port; gives the connection. A proxy that forbids tunnels still
/// passes polling in the clear, if `may_poll`.
pub async fn proxy(connector: &Connector, may_poll: bool) -> (Finding, Option<Box<dyn Socket>>) {
    let check = Check::Proxy;
    let reached = timeout(PROXY_TIMEOUT, connector.connect_tcp());
    let reached = reached.await.unwrap_or(Err(LinkError::TimedOut("connecting")));
    let target = connector.endpoint.authority();
    match (reached, &connector.proxy) {
        (Ok(socket), None) => {
            (Finding::ok(check, format!("none is used for {target}")), Some(socket))
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

/// It works, but few people mean it.
fn local(proxy: &Proxy, target: &str) -> Finding {
    Finding::warn(
        Check::Proxy,
        format!("{proxy} connects to {target}, which it takes for its own host"),
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
